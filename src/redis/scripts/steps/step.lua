-- Opens a step of the active run: the reply that its model has made calls tools, and each call is claimed, all in one write.
-- No call begins before this has said OK, and none is claimed twice. The rows stay with the run until each call is answered
-- (answer.lua), or the run is closed; then they are appended together (lib/runs.lua). The text of the reply is in the lines
-- for the part log, and what the run makes from here on is the next message. Where somebody has to decide on a call, none is
-- claimed, and the run waits: it is nobody's until respond.lua has the last decision. Needs no op: a repeat finds its step open.
-- KEYS: the eight of base.lua
-- ARGV: runId, token, rowHead, rowTail (of the reply's row), logOffset (length of the part log so far), lines (for it),
--       linesAdded (their length, in UTF-16 units), leaseMs, nextLocalId, nextHint (of the next message's id),
--       template (of a partial next message: head, middle, tail by tabs),
--       waitMs (how long the run waits for decisions; "": it does not wait), said (where it waits: the row of the reply's text
--       alone, head and tail by a tab, "" if it has none), state (where it waits: what who carries it on needs to know),
--       calls... (for each: call id, head, tail of the row that stands in for an answer which is lost; where it waits: of a
--       call that was not begun)
-- Returns OK | WAITING head | LENGTH logLength | OPEN (another step is) | CLOSED | NOT_FOUND | CORRUPT
local runId, token, rowHead, rowTail, logOffset, lines, linesAdded, leaseMs, nextLocalId, nextHint, template, waitMs, said,
  state = unpack(ARGV, 8, 21)
local calls = 22
local x, code
if waitMs == '' then code = wrongType() else x, code = load() end
if code then return { code } end
local active, current, length, logged, ttl = unpack(call('HMGET', S, 'active', 'token', 'plen', 'llen', 'ttl'))
local count = (#ARGV - calls + 1) / 3
local step = int(count) .. '\t' .. rowHead .. '\t' .. rowTail
local run = active == runId and runOf(runId)
local open = run and call('HGET', RUNS, runId .. ':step')
if run and run.st == 'WAITING' and open == step then return { 'WAITING', headOf(x) } end
if not run or current ~= token then return { 'CLOSED' } end
if open then return { open == step and 'OK' or 'OPEN' } end
if logged ~= logOffset then return { 'LENGTH', logged } end
local p = x and plan(x)
if p then
  settleLoss(p)
  if x.lost then
    commit(p)
    return { 'CLOSED' }
  end
end

run.rl, run.hint = nextLocalId, tonumber(nextHint)
call(publish, CH, 'P' .. runId .. '\t' .. length .. '\t\t' .. logged .. '\t' .. lines)
call('HSET', RUNS, runId, cjson.encode(run), runId .. ':step', step, runId .. ':template', template,
  runId .. ':log', (call('HGET', RUNS, runId .. ':log') or '') .. lines)
for k = 1, count do
  local at = calls + (k - 1) * 3
  call('HSET', RUNS, runId .. ':call:' .. k, ARGV[at] .. '\t' .. ARGV[at + 1] .. '\t' .. ARGV[at + 2])
end
call('DEL', PART)
local total = int(tonumber(logged) + tonumber(linesAdded))
if not p then
  call('HSET', S, 'plen', 0, 'llen', total, 'until', int(now + tonumber(leaseMs)))
  slide(ttl)
  return { 'OK' }
end
call('HSET', RUNS, runId .. ':said', said, runId .. ':wait', state)
-- Whoever had the run has it no more.
x.token = x.token + 1
local expires = ttl and now + tonumber(ttl) * 1000 or call('PEXPIRETIME', H)
run.st, run.tok, run.wu = 'WAITING', x.token, now + tonumber(waitMs)
if expires > 0 then run.wu = math.min(run.wu, expires) end
p.runs[1] = run
p.set.plen, p.set.llen, p.set.token, p.set['until'] = 0, total, x.token, run.wu
commit(p)
return { 'WAITING', headOf(x) }
