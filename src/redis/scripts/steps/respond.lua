-- Takes decisions on calls that a run waits for: all of them, or none. With the last one the run goes on, with the process
-- that has brought it; no call is claimed by that yet (claim.lua). What was decided is judged by the part log that the
-- caller has seen: where that is not as long as it was, somebody else has decided meanwhile.
-- KEYS: the eight of base.lua
-- ARGV: runId, processId, attempt (names this very call), left (how many calls wait for a decision behind this), rowHead,
--       rowTail (of the reply's row, with the arguments that were edited; "": as it is), logOffset (length of the part log so
--       far), lines (for it), linesAdded (their length, in UTF-16 units), leaseMs, memory (default), memoryRows (the most that
--       a turn reads),
--       decisions... (for each: number of the call in its step, from 1, decision, row, head and tail of it. The row is an
--       "answer" to the call, or for a "call" that begins by this what stands in for a lost answer, or "": there is none)
-- Returns STARTED head run inputRow memory instructions summary low rows owner tools log state decisions...
--         | OK head | KNOWN fingerprint | LENGTH logLength | NOT_WAITING | NOT_FOUND | CORRUPT
local runId, processId, attempt, left, rowHead, rowTail, logOffset, lines, linesAdded, leaseMs, memory, memoryRows = unpack(ARGV, 8, 19)
local decisions = 20
local x, code = load()
if not x then return { code } end
local run = not x.none and runOf(runId)
if not run then return { 'NOT_FOUND' } end

local o = { memory = memory, most = tonumber(memoryRows) }
local op = knownOp(opId)
if op then
  -- The very attempt that brought the last decision, sent again because its reply was lost.
  if op.result == attempt and left == '0' and run.st == 'RUNNING' and x.s.active == runId then return startedAfterWaiting(x, run, o) end
  return { 'KNOWN', op.fingerprint }
end
local p = plan(x)
settleLoss(p)
settleLease(p, 0, 'step')
if #p.runs > 0 then
  opId = ''
  commit(p)
  return { 'NOT_WAITING' }
end
local count = run.st == 'WAITING' and x.s.active == runId and stepSize(run)
if not count then return { 'NOT_WAITING' } end
if x.s.llen ~= logOffset then return { 'LENGTH', x.s.llen } end

addLines(x.s, runId, lines, linesAdded)
for i = decisions, #ARGV, 5 do
  local number, decision, row, head, tail = unpack(ARGV, i, i + 4)
  call('HSET', RUNS, runId .. ':decision:' .. number, decision)
  if row ~= '' then call('HSET', RUNS, runId .. ':' .. row .. ':' .. number, head .. '\t' .. tail) end
  -- From here on the step is told of, whatever becomes of the run.
  if row == 'call' then p.uncut[1] = runId .. ':said' end
end
if rowHead ~= '' then call('HSET', RUNS, runId .. ':step', int(count) .. '\t' .. rowHead .. '\t' .. rowTail) end
p.result = attempt
if left ~= '0' then
  commit(p)
  return { 'OK', headOf(x) }
end

x.token = x.token + 1
run.st, run.tok, run.own, run.wu, run.calls = 'RUNNING', x.token, processId, nil, count
p.runs[1] = run
p.resumed = run
p.set.token, p.set['until'] = x.token, now + tonumber(leaseMs)
commit(p)
return startedAfterWaiting(x, run, o)
