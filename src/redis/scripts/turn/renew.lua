-- Extends the lease of a run that makes no text at the moment.
-- KEYS: the eight of base.lua
-- ARGV: 8 run id, 9 token, 10 lease in ms
-- Returns OK | CLOSED | NOT_FOUND | CORRUPT
local wrong = wrongType()
if wrong then return { wrong } end
local active, token, ttl = unpack(call('HMGET', S, 'active', 'token', 'ttl'))
if active ~= ARGV[8] or token ~= ARGV[9] then return { 'CLOSED' } end
call('HSET', S, 'until', int(now + tonumber(ARGV[10])))
slide(ttl)
return { 'OK' }
