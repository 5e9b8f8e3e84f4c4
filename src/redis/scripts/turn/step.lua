-- Opens a step of the active run: the reply that its model has made calls tools, and each call is claimed, all in one write.
-- No call begins before this has said OK, and none is claimed twice. The rows stay with the run until each call is answered
-- (answer.lua), or the run is closed; then they are appended together (lib/runs.lua). The text of the reply is in the lines
-- for the part log, and what the run makes from here on is the next message. Needs no op: a repeat finds its step open.
-- KEYS: the eight of base.lua
-- ARGV: runId, token, rowHead, rowTail (of the reply's row), logOffset (length of the part log so far), lines (for it),
--       linesAdded (their length, in UTF-16 units), leaseMs, nextLocalId, nextHint (of the next message's id),
--       template (of a partial next message: head, middle, tail by tabs),
--       calls... (for each: call id, head, tail of the row that stands in for an answer which is lost)
-- Returns OK | LENGTH logLength | OPEN (another step is) | CLOSED | NOT_FOUND | CORRUPT
local runId, token, rowHead, rowTail, logOffset, lines, linesAdded, leaseMs, nextLocalId, nextHint, template = unpack(ARGV, 8, 18)
local calls = 19
local wrong = wrongType()
if wrong then return { wrong } end
local active, current, length, logged, ttl = unpack(call('HMGET', S, 'active', 'token', 'plen', 'llen', 'ttl'))
local run = active == runId and current == token and runOf(runId)
if not run then return { 'CLOSED' } end
local count = (#ARGV - calls + 1) / 3
local step = int(count) .. '\t' .. rowHead .. '\t' .. rowTail
local open = call('HGET', RUNS, runId .. ':step')
if open then return { open == step and 'OK' or 'OPEN' } end
if logged ~= logOffset then return { 'LENGTH', logged } end

run.rl, run.hint = nextLocalId, tonumber(nextHint)
call(publish, CH, 'P' .. runId .. '\t' .. length .. '\t\t' .. logged .. '\t' .. lines)
call('HSET', RUNS, runId, cjson.encode(run), runId .. ':step', step, runId .. ':template', template,
  runId .. ':log', (call('HGET', RUNS, runId .. ':log') or '') .. lines)
for k = 1, count do
  local at = calls + (k - 1) * 3
  call('HSET', RUNS, runId .. ':call:' .. k, ARGV[at] .. '\t' .. ARGV[at + 1] .. '\t' .. ARGV[at + 2])
end
call('DEL', PART)
call('HSET', S, 'plen', 0, 'llen', int(tonumber(logged) + tonumber(linesAdded)), 'until', int(now + tonumber(leaseMs)))
slide(ttl)
return { 'OK' }
