-- Drops the whole history with the checkpoints of its LangGraph thread, and cancels the session's runs; the session stays.
-- KEYS: the eight of base.lua, 9 checkpoints (hash), 10 their order (zset)
-- ARGV: none of its own
-- Returns OK head | NOT_FOUND | CORRUPT
local x, code = load()
if not x then return { code } end
if x.none then return { 'NOT_FOUND' } end
if not knownOp(opId) then
  local p = plan(x)
  settleLoss(p)
  cancelRuns(p)
  p.trim, p.reset = 0, 0
  x.oldGen, x.gen = x.oldGen or x.gen, newGeneration(x)
  x.base = 0
  for _, field in ipairs({ 'sumText', 'sumGen', 'sumPos', 'sumMark' }) do p.drop[#p.drop + 1] = field end
  p.set.read = 0
  p.set.updated = x.s.created or now
  x.s.updated = p.set.updated
  x.foreign = false
  commit(p)
  call('DEL', KEYS[9], KEYS[10])
end
return { 'OK', headOf(x) }
