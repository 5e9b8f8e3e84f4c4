-- Raises readCount to behind the cursor's message, or to the end. Never goes back.
-- KEYS: the eight of base.lua
-- ARGV: 8 cursor's generation or another kind of place (place.lua; "": to the end), 9 position, 10 mark
-- Returns OK head | EXPIRED | NOT_FOUND | CORRUPT
local x, code = load()
if not x then return { code } end
if x.none then return { 'NOT_FOUND' } end
local target = x.base + x.n
if ARGV[8] ~= '' then
  local at = placeOf(x, ARGV[8], ARGV[9], ARGV[10])
  if not at then return { 'EXPIRED' } end
  target = at + 1
end
if not knownOp(ARGV[5]) and (x.foreign or target > tonumber(x.s.read or 0)) then
  local p = plan(x)
  settleLoss(p)
  p.updated = true
  p.set.read = math.max(target, tonumber(x.s.read or 0))
  commit(p)
end
return { 'OK', headOf(x) }
