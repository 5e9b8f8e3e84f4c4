-- Lets what is going count for longer: a process that died holds nothing, and its places come free by themselves.
-- KEYS: 1 going (zset)
-- ARGV: 1 how long it counts in ms, then ids
-- Returns OK
local now = quota.now()
for i = 2, #ARGV do quota.hold(KEYS[1], ARGV[i], now, tonumber(ARGV[1])) end
return { 'OK' }
