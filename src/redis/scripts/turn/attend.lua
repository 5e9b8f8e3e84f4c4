-- Looks after a session's runs: closes one whose lease ended, then starts the head of the queue where it is the
-- caller's, or anybody's after its time. A head whose place no longer holds fails, and the next is looked at (P6, P7).
-- KEYS: the eight of base.lua
-- ARGV: 8 process id, 9 grace of expired leases in ms, 10 "1": take any process' run, 11 lease in ms, 12 default memory,
--       13 most rows a turn reads
-- Returns STARTED head run input-row memory instructions summary low rows owner | IDLE head | NOT_FOUND | CORRUPT
local x, code = load()
if not x then return { code } end
if x.none then return { 'NOT_FOUND' } end

local op = knownOp(ARGV[5])
local p = plan(x)
settleLoss(p)
settleLease(p, ARGV[9])
local o = { leaseMs = tonumber(ARGV[11]), memory = ARGV[12], most = tonumber(ARGV[13]) }
local run

if op and op.result ~= '' then
  local mine = runOf(op.result)
  if mine and mine.st == 'RUNNING' then return startedAgain(x, mine, o) end
elseif not op and not x.s.active and #p.push == 0 then
  local id = there[QUEUE] and call('LINDEX', QUEUE, 0)
  local head = id and runOf(id)
  if id and not head then
    p.queuePop = true
  elseif head and (head.own == ARGV[8] or ARGV[10] == '1') then
    p.queuePop = true
    head.own = ARGV[8]
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
return startedAnswer(x, p.states[run.id], p.turn)
