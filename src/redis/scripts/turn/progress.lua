-- Adds a batch of text to the active run. It says the length that it expects before it, so nothing doubles when it is
-- sent again; needs no op.
-- KEYS: the eight of base.lua
-- ARGV: 8 run id, 9 token, 10 length so far in UTF-16 units, 11 escaped fragment, 12 its length in UTF-16 units, 13 lease in ms
-- Returns OK length | LENGTH length | CLOSED | NOT_FOUND | CORRUPT
local wrong = wrongType()
if wrong then return { wrong } end
local active, token, length, ttl = unpack(call('HMGET', S, 'active', 'token', 'plen', 'ttl'))
if active ~= ARGV[8] or token ~= ARGV[9] then return { 'CLOSED' } end
if length ~= ARGV[10] then return { 'LENGTH', length } end
call(ARGV[1], CH, 'P' .. active .. '\t' .. length .. '\t' .. ARGV[11])
call('APPEND', PART, ARGV[11])
local total = int(tonumber(length) + tonumber(ARGV[12]))
call('HSET', S, 'plen', total, 'until', int(now + tonumber(ARGV[13])))
-- without a TTL of its own the session expires with its list, and whoever finds that takes the text along
slide(ttl)
return { 'OK', total }
