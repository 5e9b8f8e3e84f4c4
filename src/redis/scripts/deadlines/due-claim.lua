-- Claims entries whose time has come, so that one gateway of all looks after each; a claim that is not settled comes
-- due again.
-- KEYS: 1 deadlines (zset)
-- ARGV: 1 how long a claim holds in ms, 2 most entries
-- Returns score-of-the-claim members...
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local claimed = now + tonumber(ARGV[1])
local answer = { string.format('%.0f', claimed) }
for _, member in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, tonumber(ARGV[2]))) do
  redis.call('ZADD', KEYS[1], claimed, member)
  answer[#answer + 1] = member
end
return answer
