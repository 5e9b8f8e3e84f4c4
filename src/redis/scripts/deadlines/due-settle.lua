-- Takes a claimed entry away, unless somebody has given it a new deadline meanwhile.
-- KEYS: 1 deadlines (zset)
-- ARGV: member, claim (its score)
-- Returns OK removed (1 where it was taken away, else 0)
local member, claim = unpack(ARGV)
local removed = 0
if redis.call('ZSCORE', KEYS[1], member) == claim then removed = redis.call('ZREM', KEYS[1], member) end
return { 'OK', removed }
