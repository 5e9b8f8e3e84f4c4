-- Stops a run from anywhere: a queued one leaves the queue, one that runs or waits is closed with the text it has, appended as a
-- message. A run that has ended stays as it is.
-- KEYS: the eight of base.lua
-- ARGV: runId
-- Returns OK head | NOT_FOUND | CORRUPT
local runId = unpack(ARGV, 8)
local x, code = load()
if not x then return { code } end
local run = not x.none and runOf(runId)
if not run then return { 'NOT_FOUND' } end
if run.st == 'QUEUED' or run.st == 'RUNNING' or run.st == 'WAITING' then
  local p = plan(x)
  settleLoss(p)
  if run.st == 'QUEUED' then
    run.st, run.f = 'CANCELLED', now
    p.runs[#p.runs + 1] = run
    p.text[run.id] = ''
    p.queueRemove = run.id
  elseif p.closed ~= run.id then
    closeRun(p, run, 'CANCELLED', nil, nil, 'text')
  end
  commit(p)
end
return { 'OK', headOf(x) }
