-- Ends a run by its owner: the reply is appended, or the failure noted; the lease is free. Taken while the run is RUNNING
-- with this token, also when the lease had run out.
-- KEYS: the eight of base.lua
-- ARGV: runId, token, status (COMPLETED or FAILED), replyHead, replyTail (of the reply's row, "" if none), text (whole, escaped),
--       inputTokens, outputTokens, totalTokens ("" where unknown), errorCode, errorMessage, retryable ("1" or "0"),
--       retryAfter (seconds after which the provider wants to be asked again; "": it did not say), notes (a line each),
--       log (the whole part log, "" if none)
-- Returns OK head run title ("1": it was the session's first reply, and the session is to get a title by itself)
--         | KNOWN head run title | CLOSED head run ("" where it is forgotten) | NOT_FOUND | CORRUPT
local runId, token, status, replyHead, replyTail, text, inputTokens, outputTokens, totalTokens, errorCode, errorMessage, retryable,
  retryAfter, notes, log = unpack(ARGV, 8)
local x, code = load()
if not x then return { code } end
if x.none then return { 'NOT_FOUND' } end
local stored = call('HGET', RUNS, runId)
local op = knownOp(opId)
if op then return { 'KNOWN', headOf(x), stored or '', op.result } end
local run = stored and cjson.decode(stored)
if not run or run.st ~= 'RUNNING' or run.tok ~= tonumber(token) then return { 'CLOSED', headOf(x), stored or '' } end

-- A row of the gateway's as it lies at another position, which its note holds; who has its old place finds it by that.
local function moved(plan, raw, from, to)
  local tail = ',"position":' .. int(from) .. '}}}}'
  local note = '"parley":{"session":"' .. string.sub(redis.sha1hex(H), 1, 8) .. '"'
  if string.sub(raw, -#tail) ~= tail or not string.find(raw, note, math.max(1, #raw - 200), true) then return raw end
  local row = string.sub(raw, 1, -#tail - 1) .. ',"position":' .. int(to) .. '}}}}'
  plan.ops[#plan.ops + 1] = { 'p:' .. int(from) .. ' ' .. mark(raw), '', int(to) .. ' ' .. mark(row), OPS_MS }
  return row
end

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
if inputTokens ~= '' then
  run.iu, run.ou, run.tu = tonumber(inputTokens), tonumber(outputTokens), tonumber(totalTokens)
  local s = x.s
  p.set.iu, p.set.ou, p.set.tu = (tonumber(s.iu) or 0) + run.iu, (tonumber(s.ou) or 0) + run.ou, (tonumber(s.tu) or 0) + run.tu
end
p.text[run.id], p.log[run.id] = text, log
local title = ''
if run.st == 'FAILED' then
  run.code, run.msg, run.rt, run.ra = errorCode, errorMessage, tonumber(retryable), tonumber(retryAfter)
else
  local position = x.base + x.n
  local later = {}
  if run.cut then
    -- What others appended meanwhile stays, behind the new reply. Retention may have trimmed the old one since.
    later = rowsOf(x, run.seen, x.base + x.n - 1)
    position = math.max(run.cut, x.base)
    cut(p, position)
    -- the old reply was read, the new one is not
    p.set.read = math.min(tonumber(x.s.read or 0), position)
    run.cut = nil
  end
  if x.s.untitled then
    -- in this write, so that of several gateways only one makes it
    title = x.s.title and '' or '1'
    p.drop[#p.drop + 1] = 'untitled'
  end
  local raw = replyHead .. int(position) .. replyTail
  p.push[1] = raw
  run.rp, run.rm = position, mark(raw)
  for i = #later, 1, -1 do
    local from, to = x.base + x.n - i, position + #p.push
    p.push[#p.push + 1] = from == to and later[i] or moved(p, later[i], from, to)
    p.more = true
  end
end
p.runs[1] = run
p.partial = true
p.drop[#p.drop + 1] = 'active'
p.drop[#p.drop + 1] = 'until'
x.s.active = nil
p.result = title
commit(p)
return { 'OK', headOf(x), p.states[run.id], title }
