-- Keeps what a call of the active run's open step was answered; the first answer to a call counts. The last one appends the
-- step, the reply and then the answers in the order of its calls, in one write: a call is never in the history without its
-- answer. With the first step of a reply that is made anew, the old one goes.
-- KEYS: the eight of base.lua
-- ARGV: runId, token, number (of the call in its step, from 1), rowHead, rowTail (of the answer's row),
--       logOffset (length of the part log so far), lines (for it), linesAdded (their length, in UTF-16 units), leaseMs
-- Returns OK head | LENGTH logLength | CLOSED | NOT_FOUND | CORRUPT
local runId, token, number, rowHead, rowTail, logOffset, lines, linesAdded, leaseMs = unpack(ARGV, 8)
local x, code = load()
if not x then return { code } end
if knownOp(opId) then return { 'OK', headOf(x) } end
local s = x.s
local run = not x.none and s.active == runId and s.token == token and runOf(runId)
local count = run and stepSize(run)
if not count then return { 'CLOSED' } end
local p = plan(x)
settleLoss(p)
if x.lost then
  opId = '' -- nothing was taken: sent again, it is closed as well
  commit(p)
  return { 'CLOSED' }
end
local answer = runId .. ':answer:' .. number
if not call('HGET', RUNS, answer) then
  if s.llen ~= logOffset then return { 'LENGTH', s.llen } end
  addLines(s, runId, lines, linesAdded)
  call('HSET', RUNS, answer, rowHead .. '\t' .. rowTail)
  call('HSET', S, 'until', int(now + tonumber(leaseMs)))
end
if not isAnswered(run, count) then
  slide(s.ttl)
  return { 'OK', headOf(x) }
end
pushInPlace(p, run, stepRows(p, run), 1)
p.runs[1] = run
p.set['until'] = now + tonumber(leaseMs)
commit(p)
return { 'OK', headOf(x) }
