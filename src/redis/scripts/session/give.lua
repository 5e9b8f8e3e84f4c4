-- Makes a session another owner's, as it is: history, record, runs, cursors and ids stay. Who follows it reads it anew and
-- finds whether it is still theirs: that is what an event of another version makes a reader do.
-- KEYS: the eight of base.lua
-- ARGV: 8 new owner
-- Returns OK head | KNOWN head (it is that owner's) | NOT_FOUND (it is neither's) | CORRUPT
local from = ARGV[2]
ARGV[2] = '*'
local x, code = load()
if not x then return { code } end
if x.s.owner == ARGV[8] then return { 'KNOWN', headOf(x) } end
if x.none or x.s.owner ~= from then return { 'NOT_FOUND' } end
call(ARGV[1], CH, '{"v":0}')
call('HSET', S, 'owner', ARGV[8])
return { 'OK', headOf(x) }
