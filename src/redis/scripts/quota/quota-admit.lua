-- Counts a call of a model that no other script counts, or says which limit leaves no room for it. Sent again under its
-- id it counts once. May also be asked whether there is room, for a call that is not to count.
-- KEYS: 1 sends (zset), 2 going (zset), 3 tokens (hash)
-- ARGV: id, limits (see quota.lua), holdMs (how long it counts as going), how ("1": it may interrupt one that is going, which
--       leaves its place to it. It counts all the same where GOING alone leaves no room, and who asks takes it back where
--       it interrupts nothing; "2": it only asks)
-- Returns OK | LIMITED limit seconds
local id, limits, holdMs, how = unpack(ARGV)
local now = quota.now()
local limit, seconds = quota.refusal(KEYS[1], KEYS[2], KEYS[3], id, limits, now)
if how ~= '2' and (not limit or (limit == 'GOING' and how == '1')) then
  quota.take(KEYS[1], KEYS[2], id, limits, now, tonumber(holdMs))
end
if limit then return { 'LIMITED', limit, seconds } end
return { 'OK' }
