-- Keeps a summary of the rows up to a place, while that place still holds: a deleted text must not live on in it.
-- KEYS: the eight of base.lua
-- ARGV: generation, position, rowMark, text
-- Returns OK | EXPIRED | NOT_FOUND | CORRUPT
local generation, position, rowMark, text = unpack(ARGV, 8)
local x, code = load()
if not x then return { code } end
if x.none then return { 'NOT_FOUND' } end
if not holds(x, generation, position, rowMark) then return { 'EXPIRED' } end
call('HSET', S, 'sumText', text, 'sumGen', generation, 'sumPos', position, 'sumMark', rowMark)
return { 'OK' }
