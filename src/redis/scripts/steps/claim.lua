-- Claims the calls of a step that has waited: from here on they may have taken effect, and none of them begins before this
-- has said OK. A step whose every call was answered by a decision is appended.
-- KEYS: the eight of base.lua
-- ARGV: runId, token, leaseMs
-- Returns OK head | CLOSED | NOT_FOUND | CORRUPT
local runId, token, leaseMs = unpack(ARGV, 8)
local x, code = load()
if not x then return { code } end
if knownOp(opId) then return { 'OK', headOf(x) } end
local run = not x.none and x.s.active == runId and x.s.token == token and runOf(runId)
local count = run and stepSize(run)
if not count then return { 'CLOSED' } end
local p = plan(x)
settleLoss(p)
if x.lost then
  opId = '' -- nothing was taken: sent again, it is closed as well
  commit(p)
  return { 'CLOSED' }
end
p.uncut[1] = runId .. ':said'
if isAnswered(run, count) then
  pushInPlace(p, run, stepRows(p, run, true), 1)
  p.runs[1] = run
end
p.set['until'] = now + tonumber(leaseMs)
commit(p)
return { 'OK', headOf(x) }
