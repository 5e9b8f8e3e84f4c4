-- Lets what is going count for longer: a process that died holds nothing, and its places come free by themselves.
-- KEYS: 1 going (zset)
-- ARGV: holdMs (how long it counts), ids...
-- Returns OK
local holdMs = unpack(ARGV, 1, 1)
local ids = 2
local now = quota.now()
for i = ids, #ARGV do quota.hold(KEYS[1], ARGV[i], now, tonumber(holdMs)) end
return { 'OK' }
