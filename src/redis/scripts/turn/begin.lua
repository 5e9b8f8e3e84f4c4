-- Accepts a turn: claims the op, then starts the run, queues it, or refuses. One write (P2, P7, P8).
-- KEYS: the eight of base.lua, 9 sends (zset), 10 going (zset), 11 tokens (hash): of its owner (quota.lua), with limits
-- ARGV: runJson (id, own, rid, model: left out = the session's, re: regenerate, uid: id of the user's message, uc: the caller chose it,
--       tp: traceparent, and cg, cp, cm: place to replace from, see place.lua),
--       inputHead, inputTail (of the user's row; "" when regenerating), template (of the partial reply: head, middle, tail by tabs),
--       whenBusy (QUEUE, REJECT or INTERRUPT), maxQueued, leaseMs, graceMs (of expired leases), memory (default),
--       memoryRows (the most that a turn reads), model (default), limits (of the owner, see quota.lua, or ""),
--       refused (where the limits were asked elsewhere and leave no room: limit and seconds),
--       keyOp (by the caller's key beside that of the message's id, or ""), keyFingerprint, tools (the page's, or ""),
--       record... (field, value, … where the session begins with this turn)
-- Returns STARTED head run inputRow memory instructions summary low rows owner tools interrupted (a run, if any) | QUEUED head run
--         | KNOWN fingerprint result | KEYLESS (an edit that keeps its id, without a key) | BUSY runId status | FULL
--         | LIMITED limit seconds | EXPIRED | NOTHING | NOT_FOUND | CORRUPT
local runJson, inputHead, inputTail, template, whenBusy, maxQueued, leaseMs, graceMs, memory, memoryRows, model, limits, refused,
  keyOp, keyFingerprint, tools = unpack(ARGV, 8, 23)
local record = 24
local x, code = load()
if not x then return { code } end
local run = cjson.decode(runJson)
local o = { leaseMs = tonumber(leaseMs), memory = memory, most = tonumber(memoryRows) }

local op, at, m = knownOp(keyOp), nil, nil
if not op then
  if run.cg then at, m = placeOf(x, run.cg, run.cp, run.cm) end
  -- An edit may keep the id of the message that it replaces. The op of that id is the first send's, so it has one by a key.
  if at and run.uc and nameWithId(rowAt(x, at), run.uid) then
    if keyOp == '' then return { 'KEYLESS' } end
    opId, fingerprint = keyOp, keyFingerprint
  end
  op = knownOp(opId)
  -- One whose message was cut meanwhile is told so: the op is the first send's, and says nothing of it.
  if op and op.fingerprint ~= fingerprint and run.uc and run.cg and not at and not x.none then return { 'EXPIRED' } end
  local reply, replyMark = stepAt(x, at, m)
  if reply ~= at then run.cg, at, m = 'step', reply, replyMark end
end
if op then
  if x.none then return { 'NOT_FOUND' } end
  local id = string.match(op.result, '^run:(.*)$')
  -- The very attempt that claimed the op, sent again because its reply was lost: it must still learn that it has the turn.
  if id == run.id then
    local mine = runOf(id)
    if mine and mine.st == 'RUNNING' then return startedAgain(x, mine, o) end
    if mine and mine.st == 'QUEUED' then return { 'QUEUED', headOf(x), cjson.encode(mine) } end
  end
  return { 'KNOWN', op.fingerprint, op.result }
end
if x.none and run.re then return { 'NOT_FOUND' } end
local limit, seconds = string.match(refused, '^(%u+) (%d+)$')
local interrupt = whenBusy == 'INTERRUPT'
-- What it interrupts leaves its place to it. Who was asked elsewhere did not know of that, and has counted it (quota-admit).
local leaving = interrupt and x.s.active or nil
if leaving and limit == 'GOING' then limit = nil end
if limits ~= '' then limit, seconds = quota.refusal(KEYS[9], KEYS[10], KEYS[11], run.id, limits, now, leaving) end
if limit then return { 'LIMITED', limit, tonumber(seconds) } end
-- Behind the last refusal: what is refused counts for nothing.
local function count()
  if limits == '' then return end
  quota.take(KEYS[9], KEYS[10], run.id, limits, now, o.leaseMs)
  if leaving then call('ZREM', KEYS[10], leaving) end
end

local p = plan(x)
settleLoss(p)
local waiting = there[QUEUE] and call('LLEN', QUEUE) or 0
-- Where this turn begins by cutting the history, what another was doing at its end goes with that.
local cuts = (run.re or run.cg) and (waiting == 0 or interrupt)
settleLease(p, graceMs, not cuts and 'step')
run.q = now
if x.none then
  for i = record, #ARGV, 2 do p.set[ARGV[i]], x.s[ARGV[i]] = ARGV[i + 1], ARGV[i + 1] end
end
run.model = run.model or x.s.model or model
if run.cg then
  if not at then return { 'EXPIRED' } end
  -- at its turn, which may be later, it is a cursor in any case
  if not tonumber(run.cg) then run.cg, run.cp, run.cm = x.gen, at, m end
end
if run.re and not userBelow(x, x.base + x.n) then return { 'NOTHING' } end
p.input[run.id] = run.re and '' or (inputHead .. '\t' .. inputTail)
p.template[run.id] = template
if tools ~= '' then run.ct, p.tools[run.id] = 1, tools end
p.newRun = run.id
p.result = 'run:' .. run.id
-- Sent again with either of them it is this call.
if keyOp ~= '' and keyOp ~= opId then p.ops[#p.ops + 1] = { keyOp, keyFingerprint, p.result, tonumber(keptMs) } end

-- Where the reply will lie, as far as one can tell now: part of its id.
run.hint = (run.cp or (x.base + x.n + #p.push)) + (run.re and 0 or 1) + 2 * waiting
run.rl = '~' .. base36(run.hint) .. '~' .. run.rid
if (x.s.active or waiting > 0) and not interrupt then
  if whenBusy == 'REJECT' then
    local busy = x.s.active or call('LINDEX', QUEUE, 0)
    local other = runOf(busy)
    return { 'BUSY', busy, other and other.st or '' }
  end
  if waiting >= tonumber(maxQueued) then return { 'FULL' } end
  run.st = 'QUEUED'
  nameInput(run, run.hint - 1)
  p.runs[#p.runs + 1] = run
  p.queuePush = run.id
  commit(p)
  count()
  return { 'QUEUED', headOf(x), p.states[run.id] }
end
if x.s.active then
  local active = runOf(x.s.active)
  if active then closeRun(p, active, 'CANCELLED', nil, nil, not cuts and 'text') end
end
local ok, why = start(p, run, o)
if not ok then return { why } end
commit(p)
count()
local answer = startedAnswer(x, run, p.states[run.id], p.turn)
answer[#answer + 1] = leaving
return answer
