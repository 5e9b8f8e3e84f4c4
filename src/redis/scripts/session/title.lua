-- Gives a session the title that was made for it, unless it has one by now. Where the history is no longer the one that the
-- title was made of, the session's next reply gets it one: a deleted text must not live on in a title.
-- KEYS: the eight of base.lua
-- ARGV: generation (of the history), title
-- Returns OK head | TITLED | EXPIRED | NOT_FOUND | CORRUPT
local generation, title = unpack(ARGV, 8)
local x, code = load()
if not x then return { code } end
if x.none or x.fresh then return { 'NOT_FOUND' } end
if knownOp(opId) then return { 'OK', headOf(x) } end
if x.s.title then return { 'TITLED' } end
if x.gen ~= tonumber(generation) then
  call('HSET', S, 'untitled', 1)
  return { 'EXPIRED' }
end
local p = plan(x)
p.updated = true
p.set.title = title
commit(p)
return { 'OK', headOf(x) }
