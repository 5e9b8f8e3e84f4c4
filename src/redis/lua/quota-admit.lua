-- Counts a call of a model that no other script counts, or says which limit leaves no room for it. Sent again under its
-- id it counts once.
-- KEYS: 1 sends (zset), 2 going (zset), 3 tokens (hash)
-- ARGV: 1 id, 2 limits (quota.lua), 3 how long it counts as going in ms
-- Returns OK | LIMITED limit seconds
local now = quota.now()
local limit, seconds = quota.refusal(KEYS[1], KEYS[2], KEYS[3], ARGV[1], ARGV[2], now)
if limit then return { 'LIMITED', limit, seconds } end
quota.take(KEYS[1], KEYS[2], ARGV[1], ARGV[2], now, tonumber(ARGV[3]))
return { 'OK' }
