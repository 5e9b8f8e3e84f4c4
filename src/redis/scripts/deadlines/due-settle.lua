-- Takes a claimed entry away, unless somebody has given it a new deadline meanwhile.
-- KEYS: 1 deadlines (zset)
-- ARGV: 1 member, 2 score of the claim
-- Returns 1 where it was taken away, else 0
if redis.call('ZSCORE', KEYS[1], ARGV[1]) == ARGV[2] then return redis.call('ZREM', KEYS[1], ARGV[1]) end
return 0
