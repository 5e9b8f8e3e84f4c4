-- Changes settings of the record. A TTL of "" makes it never expire.
-- KEYS: the eight of base.lua
-- ARGV: setsTtl ("1": the TTL changes), ttl (in seconds or ""), drops (fields that go, commas between), record... (field, value, …)
-- Returns OK head | NOT_FOUND | CORRUPT
local setsTtl, ttl, drops = unpack(ARGV, 8, 10)
local record = 11
local x, code = load()
if not x then return { code } end
if x.none then return { 'NOT_FOUND' } end
if not knownOp(opId) then
  local p = plan(x)
  settleLoss(p)
  p.updated = true
  for field in string.gmatch(drops, '[^,]+') do
    p.drop[#p.drop + 1] = field
    x.s[field] = nil
  end
  for i = record, #ARGV, 2 do p.set[ARGV[i]] = ARGV[i + 1] end
  if setsTtl == '1' then
    if ttl == '' then
      p.forever = true
      p.drop[#p.drop + 1] = 'ttl'
    else
      p.set.ttl = ttl
    end
  end
  commit(p)
end
return { 'OK', headOf(x) }
