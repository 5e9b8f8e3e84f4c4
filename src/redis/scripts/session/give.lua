-- Makes a session another owner's, as it is: history, record, runs, cursors and ids stay. Who follows it reads it anew and
-- finds whether it is still theirs: that is what an event of another version makes a reader do.
-- KEYS: the eight of base.lua
-- ARGV: newOwner
-- Returns OK head | KNOWN head (it is that owner's) | NOT_FOUND (it is neither's) | CORRUPT
local newOwner = unpack(ARGV, 8)
local from = owner
owner = '*'
local x, code = load()
if not x then return { code } end
if x.s.owner == newOwner then return { 'KNOWN', headOf(x) } end
if x.none or x.s.owner ~= from then return { 'NOT_FOUND' } end
call(publish, CH, '{"v":0}')
local stamp = redis.sha1hex(table.concat({ x.s.stamp or '', clock[1], clock[2], newOwner }, ' '))
call('HSET', S, 'owner', newOwner, 'stamp', string.sub(stamp, 1, 16))
return { 'OK', headOf(x) }
