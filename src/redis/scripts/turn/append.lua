-- Appends messages, all or none; starts an unknown session. Messages with an id of the caller's are ops of their own.
-- KEYS: the eight of base.lua
-- ARGV: messages... (for each: op id or "", fingerprint, row head, row tail)
-- Returns OK head places... | KNOWN head places... (places: "position mark" of each) | REUSED | NOT_FOUND | CORRUPT
local x, code = load()
if not x then return { code } end
local messages = 8
local count = (#ARGV - messages + 1) / 4

-- Not by unpack, which fails for some thousand, and here that would be behind the write.
local function add(answer, places)
  for _, place in ipairs(places) do answer[#answer + 1] = place end
end

local known, fresh, places, mixed = 0, 0, {}, false
for i = 0, count - 1 do
  local id, content = ARGV[messages + i * 4], ARGV[messages + 1 + i * 4]
  local op = knownOp(id)
  if op then
    known = known + 1
    if op.fingerprint ~= content then mixed = true end
    places[#places + 1] = op.result
  elseif id ~= '' then
    fresh = fresh + 1
  end
end
local whole = knownOp(opId)
if whole then
  if whole.fingerprint ~= fingerprint then return { 'REUSED' } end
  if x.none then return { 'NOT_FOUND' } end
  local answer = { 'KNOWN', headOf(x) }
  for place in string.gmatch(whole.result, '[^\n]+') do answer[#answer + 1] = place end
  return answer
end
if mixed or (known > 0 and known < count) then return { 'REUSED' } end
if known > 0 then
  if x.none then return { 'NOT_FOUND' } end
  for _, place in ipairs(places) do if not string.find(place, '^%d+ %x+$') then return { 'REUSED' } end end
  local answer = { 'KNOWN', headOf(x) }
  add(answer, places)
  return answer
end

local p = plan(x)
settleLoss(p)
for i = 0, count - 1 do
  local position = x.base + x.n + #p.push
  local raw = fill(ARGV[messages + 2 + i * 4], position, ARGV[messages + 3 + i * 4])
  p.push[#p.push + 1] = raw
  places[#places + 1] = int(position) .. ' ' .. mark(raw)
  local id = ARGV[messages + i * 4]
  if id ~= '' then p.ops[#p.ops + 1] = { id, ARGV[messages + 1 + i * 4], places[#places], OPS_MS } end
end
p.result = table.concat(places, '\n')
commit(p)
local done = { 'OK', headOf(x) }
add(done, places)
return done
