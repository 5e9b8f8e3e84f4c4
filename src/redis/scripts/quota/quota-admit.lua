-- Counts a call of a model that no other script counts, or says which limit leaves no room for it. Sent again under its
-- id it counts once. May also be asked whether there is room, for a call that is not to count.
-- KEYS: 1 sends (zset), 2 going (zset), 3 tokens (hash)
-- ARGV: 1 id, 2 limits (quota.lua), 3 how long it counts as going in ms, 4 "1": it may interrupt one that is going, which
--       leaves its place to it. It counts all the same where GOING alone leaves no room, and who asks takes it back where
--       it interrupts nothing; "2": it only asks
-- Returns OK | LIMITED limit seconds
local now = quota.now()
local limit, seconds = quota.refusal(KEYS[1], KEYS[2], KEYS[3], ARGV[1], ARGV[2], now)
if ARGV[4] ~= '2' and (not limit or (limit == 'GOING' and ARGV[4] == '1')) then
  quota.take(KEYS[1], KEYS[2], ARGV[1], ARGV[2], now, tonumber(ARGV[3]))
end
if limit then return { 'LIMITED', limit, seconds } end
return { 'OK' }
