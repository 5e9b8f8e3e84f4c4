-- Makes a session of a copied history: the copy lies under a staging key in this slot and is renamed.
-- KEYS: the eight of base.lua, 9 staging (list)
-- ARGV: rows (how many are staged), record... (field, value, …)
-- Returns OK head | KNOWN fingerprint | EXISTS | STAGING (the copy is not whole) | NOT_FOUND (made by this op, and gone
--         since) | CORRUPT
local rows = unpack(ARGV, 8, 8)
local record = 9
local x, code = load()
if not x then return { (code == 'CORRUPT' or adopts == '2') and code or 'EXISTS' } end
local op = knownOp(opId)
if op then return { x.none and 'NOT_FOUND' or 'KNOWN', op.fingerprint } end
if not x.none then return { 'EXISTS' } end
local count = tonumber(rows)
if call('LLEN', KEYS[9]) ~= count then return { 'STAGING' } end
local p = plan(x)
for i = record, #ARGV, 2 do p.set[ARGV[i]] = ARGV[i + 1] end
if count > 0 then
  p.staged = KEYS[9]
  x.n, x.foreign = count, true
end
p.set.read = count
commit(p)
return { 'OK', headOf(x) }
