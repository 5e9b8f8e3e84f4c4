-- Puts a session of an archive in its place: its rows lie under a staging key in this slot and are renamed, its positions
-- and (where nothing is replaced) its generation are those of the archive, so cursors hold. What is there already is only
-- replaced when told to, and cursors hold where its rows are the archive's; what came from the same archive is left as it is.
-- KEYS: the eight of base.lua, 9 staging (list)
-- ARGV: rows (how many are staged), digest (of the archived rows), replace ("1": what is there), archivedGeneration, base,
--       livesUntil (when the list expires in ms, where it has a life of its own, or ""), sameAt (count of writes at which the
--       session has the staged rows already, or ""), record... (field, value, …)
-- Returns OK head | KNOWN (restored before) | EXISTS | STAGING (the copy is not whole) | CORRUPT
local rows, digest, replace, archivedGeneration, base, livesUntil, sameAt = unpack(ARGV, 8, 14)
local record = 15
local x, code = load()
if not x then return { code == 'CORRUPT' and code or 'EXISTS' } end
if knownOp(opId) then return { 'OK', headOf(x) } end
if not x.none and replace ~= '1' then return { x.s.restored == digest and 'KNOWN' or 'EXISTS' } end
local count = tonumber(rows)
if call('LLEN', KEYS[9]) ~= count then return { 'STAGING' } end

local p = plan(x)
local generation = tonumber(archivedGeneration)
local same = not x.none and not x.foreign and sameAt == int(x.seq)
if not x.none then
  cancelRuns(p)
  if same then
    generation = x.gen
  else
    p.reset, p.more = 0, true
    x.oldGen = x.oldGen or x.gen
    generation = math.max(generation, newGeneration(x))
  end
end
for i = record, #ARGV, 2 do p.set[ARGV[i]] = ARGV[i + 1] end
p.set.restored, p.set.token = digest, x.token
if p.set.sumText then
  -- archived as it lay there, also where what it sums up had been cut
  local row = (tonumber(p.set.sumPos) or -1) - tonumber(base)
  local last = row >= 0 and call('LINDEX', KEYS[9], -(row + 1))
  if last and mark(last) == p.set.sumMark then p.set.sumGen = generation else p.set.sumText = nil end
end
-- in a generation of its own no cursor of the archive's holds
if same then p.set.era, p.set.cuts, p.set.trimmed = x.s.era, x.s.cuts, x.s.trimmed
elseif generation ~= tonumber(archivedGeneration) then p.set.era, p.set.cuts = nil, nil end
-- the record begins anew, but the count of writes goes on: who follows tells by it what is new
x.s = { updated = p.set.updated }
x.gen, x.base = generation, tonumber(base)
x.fresh, x.none, x.foreign, x.purge = true, false, false, true
if count > 0 then
  p.staged, x.n = KEYS[9], count
  p.lives = tonumber(livesUntil)
else
  p.trim = 0
end
commit(p)
return { 'OK', headOf(x) }
