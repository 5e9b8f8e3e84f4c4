-- Accepts a turn: claims the op, then starts the run, queues it, or refuses. One write (P2, P7, P8).
-- KEYS: the eight of base.lua, 9 sends (zset), 10 going (zset), 11 tokens (hash): of its owner (quota.lua), with ARGV 19
-- ARGV: 8 run state (JSON: id, own, rid, model ("" = the session's), re (regenerate), uid (id of the user's message), uc (the caller chose it),
--       tp (traceparent), cg, cp, cm (place to replace from: place.lua)),
--       9 input row head, 10 input row tail ("" when regenerating), 11 partial template (head, middle, tail by tabs),
--       12 QUEUE | REJECT | INTERRUPT, 13 most that may wait, 14 lease in ms, 15 grace of expired leases in ms,
--       16 default memory, 17 most rows a turn reads, 18 default model,
--       19 limits of the owner (quota.lua) or "", 20 where these were asked elsewhere and leave no room: limit and seconds,
--       21 op by the caller's key beside that of the message's id, or "", 22 its fingerprint,
--       then field, value, … of the record where the session begins with this turn
-- Returns STARTED head run input-row memory instructions summary low rows owner, and the run that it interrupted | QUEUED head run | KNOWN fingerprint result
--         | KEYLESS (an edit that keeps its id, without a key)
--         | BUSY run-id | FULL | LIMITED limit seconds | EXPIRED | NOTHING | NOT_FOUND | CORRUPT
local x, code = load()
if not x then return { code } end
local run = cjson.decode(ARGV[8])
local o = { leaseMs = tonumber(ARGV[14]), memory = ARGV[16], most = tonumber(ARGV[17]) }

local op, at, m = knownOp(ARGV[21]), nil, nil
if not op then
  if run.cg then at, m = placeOf(x, run.cg, run.cp, run.cm) end
  -- An edit may keep the id of the message that it replaces. The op of that id is the first send's, so it has one by a key.
  if at and run.uc and nameWithId(rowAt(x, at), run.uid) then
    if ARGV[21] == '' then return { 'KEYLESS' } end
    ARGV[5], ARGV[6] = ARGV[21], ARGV[22]
  end
  op = knownOp(ARGV[5])
  -- One whose message was cut meanwhile is told so: the op is the first send's, and says nothing of it.
  if op and op.fingerprint ~= ARGV[6] and run.uc and run.cg and not at and not x.none then return { 'EXPIRED' } end
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
local limit, seconds = string.match(ARGV[20], '^(%u+) (%d+)$')
local interrupt = ARGV[12] == 'INTERRUPT'
-- What it interrupts leaves its place to it. Who was asked elsewhere did not know of that, and has counted it (quota-admit).
local leaving = interrupt and x.s.active or nil
if leaving and limit == 'GOING' then limit = nil end
if ARGV[19] ~= '' then limit, seconds = quota.refusal(KEYS[9], KEYS[10], KEYS[11], run.id, ARGV[19], now, leaving) end
if limit then return { 'LIMITED', limit, tonumber(seconds) } end
-- Behind the last refusal: what is refused counts for nothing.
local function count()
  if ARGV[19] == '' then return end
  quota.take(KEYS[9], KEYS[10], run.id, ARGV[19], now, o.leaseMs)
  if leaving then call('ZREM', KEYS[10], leaving) end
end

local p = plan(x)
settleLoss(p)
settleLease(p, ARGV[15])
run.q = now
if x.none then
  for i = 23, #ARGV, 2 do p.set[ARGV[i]], x.s[ARGV[i]] = ARGV[i + 1], ARGV[i + 1] end
end
if run.model == '' then run.model = x.s.model or ARGV[18] end
if run.cg then
  if not at then return { 'EXPIRED' } end
  -- at its turn, which may be later, it is a cursor in any case
  if not tonumber(run.cg) then run.cg, run.cp, run.cm = x.gen, at, m end
end
if run.re and not userBelow(x, x.base + x.n) then return { 'NOTHING' } end
p.input[run.id] = run.re and '' or (ARGV[9] .. '\t' .. ARGV[10])
p.template[run.id] = ARGV[11]
p.newRun = run.id
p.result = 'run:' .. run.id

local waiting = there[QUEUE] and call('LLEN', QUEUE) or 0
-- Where the reply will lie, as far as one can tell now: part of its id.
run.hint = (run.cp or (x.base + x.n)) + (run.re and 0 or 1) + 2 * waiting
run.rl = '~' .. base36(run.hint) .. '~' .. run.rid
if (x.s.active or waiting > 0) and not interrupt then
  if ARGV[12] == 'REJECT' then return { 'BUSY', x.s.active or call('LINDEX', QUEUE, 0) } end
  if waiting >= tonumber(ARGV[13]) then return { 'FULL' } end
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
  if active then closeRun(p, active, 'CANCELLED', nil, nil, not (run.re or run.cg)) end
end
local ok, why = start(p, run, o)
if not ok then return { why } end
commit(p)
count()
local answer = startedAnswer(x, p.states[run.id], p.turn)
answer[#answer + 1] = leaving
return answer
