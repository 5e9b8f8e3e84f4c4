-- Claims the calls of a step that has waited: from here on they may have taken effect, and none of them begins before this
-- has said OK. A step whose every call was answered by a decision is appended.
-- KEYS: the eight of base.lua
-- ARGV: runId, token, leaseMs,
--       calls... (for each: call id, head, tail of the row that stands in for an answer which is lost)
-- Returns OK head | CLOSED | NOT_FOUND | CORRUPT
local runId, token, leaseMs = unpack(ARGV, 8, 10)
local calls = 11
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
p.uncut[1], p.uncut[2] = runId .. ':said', runId .. ':wait'
local isWhole = isAnswered(run, count)
if isWhole then
  pushInPlace(p, run, stepRows(p, run, true), 1)
  p.runs[1] = run
end
p.set['until'] = now + tonumber(leaseMs)
commit(p)
if not isWhole then
  for k = 1, count do
    local at = calls + (k - 1) * 3
    call('HSET', RUNS, runId .. ':call:' .. k, ARGV[at] .. '\t' .. ARGV[at + 1] .. '\t' .. ARGV[at + 2])
  end
end
return { 'OK', headOf(x) }
