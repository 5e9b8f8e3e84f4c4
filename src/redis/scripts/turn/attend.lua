-- Looks after a session's runs: closes one whose lease ended, or carries it on where it has waited and its calls are not claimed
-- yet; then starts the head of the queue where it is the caller's, or anybody's after its time. A head whose place no longer holds fails, and the next is looked at (P6, P7).
-- KEYS: the eight of base.lua
-- ARGV: processId, graceMs (of expired leases), takeAny ("1": any process' run), leaseMs, memory (default),
--       memoryRows (the most that a turn reads)
-- Returns STARTED head run inputRow memory instructions summary low rows owner tools log state decisions...
--         (the last three of a run that has waited) | IDLE head | NOT_FOUND | CORRUPT
local processId, graceMs, takeAny, leaseMs, memory, memoryRows = unpack(ARGV, 8)
local x, code = load()
if not x then return { code } end
if x.none then return { 'NOT_FOUND' } end

local op = knownOp(opId)
local p = plan(x)
settleLoss(p)
settleLease(p, graceMs, 'step')
local o = { leaseMs = tonumber(leaseMs), memory = memory, most = tonumber(memoryRows) }
local left = leftRun(x, graceMs)
local run

if op and op.result ~= '' then
  local mine = runOf(op.result)
  if mine and isUnclaimed(mine) then return startedAfterWaiting(x, mine, o) end
  if mine and mine.st == 'RUNNING' then return startedAgain(x, mine, o) end
elseif not op and left and (left.own == processId or takeAny == '1') then
  x.token = x.token + 1
  left.tok, left.own, left.took = x.token, processId, (left.took or 0) + 1
  p.runs[1] = left
  p.set.token, p.set['until'] = x.token, now + o.leaseMs
  p.result = left.id
  commit(p)
  return startedAfterWaiting(x, left, o)
elseif not op and not x.s.active and #p.push == 0 then
  local id = there[QUEUE] and call('LINDEX', QUEUE, 0)
  local head = id and runOf(id)
  if id and not head then
    p.queuePop = true
  elseif head and (head.own == processId or takeAny == '1') then
    p.queuePop = true
    head.own = processId
    local ok, why = start(p, head, o)
    if ok then
      run = head
      p.result = head.id
    else
      head.st, head.f, head.code, head.rt = 'FAILED', now, 'OTHER', 1
      head.msg = why == 'NOTHING' and 'There is no message left to answer.' or 'The message that this was to replace is gone or has changed.'
      p.text[head.id] = ''
      p.runs[#p.runs + 1] = head
    end
  end
end
if not op and (x.lost or #p.runs > 0 or #p.drop > 0 or p.queuePop) then commit(p) end
if not run then return { 'IDLE', headOf(x) } end
return startedAnswer(x, run, p.states[run.id], p.turn)
