-- Extends the lease of a run that makes no text at the moment.
-- KEYS: the eight of base.lua
-- ARGV: runId, token, leaseMs
-- Returns OK | CLOSED | NOT_FOUND | CORRUPT
local runId, token, leaseMs = unpack(ARGV, 8)
local wrong = wrongType()
if wrong then return { wrong } end
local active, current, ttl = unpack(call('HMGET', S, 'active', 'token', 'ttl'))
if active ~= runId or current ~= token then return { 'CLOSED' } end
call('HSET', S, 'until', int(now + tonumber(leaseMs)))
slide(ttl)
return { 'OK' }
