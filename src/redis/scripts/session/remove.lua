-- Deletes the session: history, record, runs, and the checkpoints of its LangGraph thread. Its ops stay as its tombstone (P8).
-- KEYS: the eight of base.lua, 9 checkpoints (hash), 10 their order (zset)
-- ARGV: none of its own
-- Returns OK | NOT_FOUND | CORRUPT
local x, code = load()
if not x then return { code } end
if knownOp(opId) then return { 'OK' } end
if x.none then return { 'NOT_FOUND' } end
local p = plan(x)
cancelRuns(p)
p.removed = true
commit(p)
call('DEL', KEYS[9], KEYS[10])
return { 'OK' }
