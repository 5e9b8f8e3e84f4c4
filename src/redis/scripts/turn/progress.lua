-- Adds a batch of text, and lines of the part log, to the active run. It says the lengths that it expects before it, so
-- nothing doubles when it is sent again; needs no op.
-- KEYS: the eight of base.lua
-- ARGV: runId, token, offset (length of the text so far), fragment (escaped), added (its length), leaseMs,
--       logOffset (length of the part log so far), lines (for it, "" if none), linesAdded (their length; all in UTF-16 units)
-- Returns OK length | LENGTH length logLength | CLOSED | NOT_FOUND | CORRUPT
local runId, token, offset, fragment, added, leaseMs, logOffset, lines, linesAdded = unpack(ARGV, 8)
local wrong = wrongType()
if wrong then return { wrong } end
local active, current, length, logged, ttl = unpack(call('HMGET', S, 'active', 'token', 'plen', 'llen', 'ttl'))
-- A gateway that knows no log may have started the run.
logged = logged or '0'
if active ~= runId or current ~= token then return { 'CLOSED' } end
if length ~= offset or logged ~= logOffset then return { 'LENGTH', length, logged } end
-- Where there is a log, its length says which message the text is of.
local log = (lines ~= '' or logged ~= '0') and '\t' .. logged .. '\t' .. lines or ''
call(publish, CH, 'P' .. active .. '\t' .. length .. '\t' .. fragment .. log)
if fragment ~= '' then call('APPEND', PART, fragment) end
local total = int(tonumber(length) + tonumber(added))
call('HSET', S, 'plen', total, 'until', int(now + tonumber(leaseMs)))
if lines ~= '' then
  call('HSET', S, 'llen', int(tonumber(logged) + tonumber(linesAdded)))
  call('HSET', RUNS, active .. ':log', (call('HGET', RUNS, active .. ':log') or '') .. lines)
end
-- without a TTL of its own the session expires with its list, and whoever finds that takes the text along
slide(ttl)
return { 'OK', total }
