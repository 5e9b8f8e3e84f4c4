-- Raises readCount to behind the cursor's message, or to the end. Never goes back.
-- KEYS: the eight of base.lua
-- ARGV: kind, where, what (a place, see place.lua; "": to the end)
-- Returns OK head | EXPIRED | NOT_FOUND | CORRUPT
local kind, where, what = unpack(ARGV, 8)
local x, code = load()
if not x then return { code } end
if x.none then return { 'NOT_FOUND' } end
local target = x.base + x.n
if kind ~= '' then
  local at = placeOf(x, kind, where, what)
  if not at then return { 'EXPIRED' } end
  target = at + 1
end
if not knownOp(opId) and (x.foreign or target > tonumber(x.s.read or 0)) then
  local p = plan(x)
  settleLoss(p)
  p.updated = true
  p.set.read = math.max(target, tonumber(x.s.read or 0))
  commit(p)
end
return { 'OK', headOf(x) }
