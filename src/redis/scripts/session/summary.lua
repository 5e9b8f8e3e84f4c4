-- Keeps a summary of the rows up to a place, while that place still holds: a deleted text must not live on in it.
-- KEYS: the eight of base.lua
-- ARGV: 8 generation, 9 position, 10 mark, 11 text
-- Returns OK | EXPIRED | NOT_FOUND | CORRUPT
local x, code = load()
if not x then return { code } end
if x.none then return { 'NOT_FOUND' } end
if not holds(x, ARGV[8], ARGV[9], ARGV[10]) then return { 'EXPIRED' } end
call('HSET', S, 'sumText', ARGV[11], 'sumGen', ARGV[8], 'sumPos', ARGV[9], 'sumMark', ARGV[10])
return { 'OK' }
