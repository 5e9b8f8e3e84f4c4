-- Changes settings of the record. A TTL of "" makes it never expire.
-- KEYS: the eight of base.lua
-- ARGV: 8 "1": the TTL changes, 9 TTL in seconds or "", 10 number of fields to drop, the fields, then field, value, …
-- Returns OK head | NOT_FOUND | CORRUPT
local x, code = load()
if not x then return { code } end
if x.none then return { 'NOT_FOUND' } end
if not knownOp(ARGV[5]) then
  local p = plan(x)
  settleLoss(p)
  p.updated = true
  local drops = tonumber(ARGV[10])
  for i = 11, 10 + drops do
    p.drop[#p.drop + 1] = ARGV[i]
    x.s[ARGV[i]] = nil
  end
  for i = 11 + drops, #ARGV, 2 do p.set[ARGV[i]] = ARGV[i + 1] end
  if ARGV[8] == '1' then
    if ARGV[9] == '' then
      p.forever = true
      p.drop[#p.drop + 1] = 'ttl'
    else
      p.set.ttl = ARGV[9]
    end
  end
  commit(p)
end
return { 'OK', headOf(x) }
