-- Adds what a call of a model has cost to the day's sum, once for each id, however often it is sent within ten minutes:
-- longer than any connection sends a command again.
-- KEYS: 1 tokens (hash: day -> sum), 2 spent (zset: id -> when)
-- ARGV: id, tokens
-- Returns OK | KNOWN
local id, tokens = unpack(ARGV)
local now = quota.now()
local day = math.floor(now / 86400000)
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', string.format('%.0f', now - 600000))
if redis.call('ZSCORE', KEYS[2], id) then return { 'KNOWN' } end
redis.call('ZADD', KEYS[2], string.format('%.0f', now), id)
redis.call('PEXPIRE', KEYS[2], 600000)
redis.call('HINCRBY', KEYS[1], day, tokens)
redis.call('HDEL', KEYS[1], day - 1, day - 2)
redis.call('PEXPIRE', KEYS[1], 86400000)
return { 'OK' }
