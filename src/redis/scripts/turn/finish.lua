-- Ends a run by its owner: the reply is appended, or the failure noted; the lease is free. A step that is open goes in
-- before it. Taken while the run is RUNNING with this token, also when the lease had run out.
-- KEYS: the eight of base.lua
-- ARGV: runId, token, status (COMPLETED or FAILED), replyHead, replyTail (of the reply's row, "" if none), text (whole, escaped),
--       inputTokens, outputTokens, totalTokens ("" where unknown), errorCode, errorMessage, retryable ("1" or "0"),
--       retryAfter (seconds after which the provider wants to be asked again; "": it did not say), notes (a line each),
--       log (the whole part log, "" if none), structured ("1": the text is the object that the agent was to give; "")
-- Returns OK head run title ("1": it was the session's first reply, and the session is to get a title by itself)
--         | KNOWN head run title | CLOSED head run ("" where it is forgotten) | NOT_FOUND | CORRUPT
local runId, token, status, replyHead, replyTail, text, inputTokens, outputTokens, totalTokens, errorCode, errorMessage, retryable,
  retryAfter, notes, log, structured = unpack(ARGV, 8)
local x, code = load()
if not x then return { code } end
if x.none then return { 'NOT_FOUND' } end
local stored = call('HGET', RUNS, runId)
local op = knownOp(opId)
if op then return { 'KNOWN', headOf(x), stored or '', op.result } end
local run = stored and cjson.decode(stored)
if not run or run.st ~= 'RUNNING' or run.tok ~= tonumber(token) then return { 'CLOSED', headOf(x), stored or '' } end

local p = plan(x)
settleLoss(p)
if x.lost then
  -- more than what progress had stored by then
  if p.closed == run.id then p.text[run.id], p.log[run.id] = text, log end
  commit(p)
  return { 'CLOSED', headOf(x), call('HGET', RUNS, runId) or '' }
end
run.st, run.f = status, now
if notes ~= '' then run.no = notes end
if structured == '1' then run.so = 1 end
if inputTokens ~= '' then
  run.iu, run.ou, run.tu = tonumber(inputTokens), tonumber(outputTokens), tonumber(totalTokens)
  local s = x.s
  p.set.iu, p.set.ou, p.set.tu = (tonumber(s.iu) or 0) + run.iu, (tonumber(s.ou) or 0) + run.ou, (tonumber(s.tu) or 0) + run.tu
end
p.text[run.id], p.log[run.id] = text, log
local title = ''
local rows = stepRows(p, run)
local reply = #rows > 0 and 1 or nil
if run.st == 'FAILED' then
  run.code, run.msg, run.rt, run.ra = errorCode, errorMessage, tonumber(retryable), tonumber(retryAfter)
elseif x.s.untitled then
  -- in this write, so that of several gateways only one makes it
  title = x.s.title and '' or '1'
  p.drop[#p.drop + 1] = 'untitled'
end
if replyHead ~= '' then
  rows[#rows + 1] = { replyHead, replyTail }
  reply = #rows
end
if #rows > 0 then pushInPlace(p, run, rows, reply) end
p.runs[1] = run
p.partial = true
p.drop[#p.drop + 1] = 'active'
p.drop[#p.drop + 1] = 'until'
x.s.active = nil
p.result = title
commit(p)
return { 'OK', headOf(x), p.states[run.id], title }
