-- Gives a session the title that was made for it, unless it has one by now. Where the history is no longer the one that the
-- title was made of, the session's next reply gets it one: a deleted text must not live on in a title.
-- KEYS: the eight of base.lua
-- ARGV: 8 generation of the history, 9 title
-- Returns OK head | TITLED | EXPIRED | NOT_FOUND | CORRUPT
local x, code = load()
if not x then return { code } end
if x.none or x.fresh then return { 'NOT_FOUND' } end
if knownOp(ARGV[5]) then return { 'OK', headOf(x) } end
if x.s.title then return { 'TITLED' } end
if x.gen ~= tonumber(ARGV[8]) then
  call('HSET', S, 'untitled', 1)
  return { 'EXPIRED' }
end
local p = plan(x)
p.updated = true
p.set.title = ARGV[9]
commit(p)
return { 'OK', headOf(x) }
