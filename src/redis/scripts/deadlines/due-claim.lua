-- Claims entries whose time has come, so that one gateway of all looks after each; a claim that is not settled comes
-- due again.
-- KEYS: 1 deadlines (zset)
-- ARGV: holdMs (how long a claim holds), most (entries)
-- Returns OK claim members... (claim: the score of the claimed)
local holdMs, most = unpack(ARGV)
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local claimed = now + tonumber(holdMs)
local answer = { 'OK', string.format('%.0f', claimed) }
for _, member in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, tonumber(most))) do
  redis.call('ZADD', KEYS[1], claimed, member)
  answer[#answer + 1] = member
end
return answer
