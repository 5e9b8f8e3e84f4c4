-- Adds a batch of text, and lines of the part log, to the active run. It says the lengths that it expects before it, so
-- nothing doubles when it is sent again; needs no op.
-- KEYS: the eight of base.lua
-- ARGV: 8 run id, 9 token, 10 length so far in UTF-16 units, 11 escaped fragment, 12 its length in UTF-16 units, 13 lease in ms,
--       14 length of the part log so far in UTF-16 units, 15 lines for it ("": none), 16 their length in UTF-16 units
-- Returns OK length | LENGTH length log-length | CLOSED | NOT_FOUND | CORRUPT
local wrong = wrongType()
if wrong then return { wrong } end
local active, token, length, logged, ttl = unpack(call('HMGET', S, 'active', 'token', 'plen', 'llen', 'ttl'))
-- A gateway that knows no log may have started the run.
logged = logged or '0'
if active ~= ARGV[8] or token ~= ARGV[9] then return { 'CLOSED' } end
if length ~= ARGV[10] or logged ~= ARGV[14] then return { 'LENGTH', length, logged } end
local lines = ARGV[15]
local log = lines ~= '' and '\t' .. logged .. '\t' .. lines or ''
call(ARGV[1], CH, 'P' .. active .. '\t' .. length .. '\t' .. ARGV[11] .. log)
if ARGV[11] ~= '' then call('APPEND', PART, ARGV[11]) end
local total = int(tonumber(length) + tonumber(ARGV[12]))
call('HSET', S, 'plen', total, 'until', int(now + tonumber(ARGV[13])))
if lines ~= '' then
  call('HSET', S, 'llen', int(tonumber(logged) + tonumber(ARGV[16])))
  call('HSET', RUNS, active .. ':log', (call('HGET', RUNS, active .. ':log') or '') .. lines)
end
-- without a TTL of its own the session expires with its list, and whoever finds that takes the text along
slide(ttl)
return { 'OK', total }
