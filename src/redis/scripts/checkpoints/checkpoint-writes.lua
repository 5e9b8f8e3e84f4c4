-- Stores what the tasks of a LangGraph thread have written since a checkpoint. Of a task each is stored once; those with an
-- index below 0 (errors, interrupts) replace the one before.
-- KEYS: 1 checkpoints (hash), 2 their order (zset)
-- ARGV: historyKey, lives (for how many milliseconds, or ""), writes... (for each: name, value)
-- Returns OK
local historyKey, lives = unpack(ARGV, 1, 2)
local writes = 3
redis.call('HSET', KEYS[1], 't', historyKey)
for i = writes, #ARGV, 2 do
  local replaces = string.find(ARGV[i], '/%-%d+$')
  if replaces or not redis.call('HGET', KEYS[1], ARGV[i]) then redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
  redis.call('ZADD', KEYS[2], 0, ARGV[i])
end
if lives ~= '' then for i = 1, 2 do redis.call('PEXPIRE', KEYS[i], lives) end end
return { 'OK' }
