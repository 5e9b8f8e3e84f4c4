-- Stops a run from anywhere: a waiting one leaves the queue, a running one is closed with the text it has, appended as a
-- message. A run that has ended is given back as it is.
-- KEYS: the eight of base.lua
-- ARGV: 8 run id
-- Returns OK head run | NOT_FOUND | CORRUPT
local x, code = load()
if not x then return { code } end
local run = not x.none and runOf(ARGV[8])
if not run then return { 'NOT_FOUND' } end
if run.st == 'QUEUED' or run.st == 'RUNNING' then
  local p = plan(x)
  settleLoss(p)
  if p.closed == run.id then
    run = p.runs[1]
  elseif run.st == 'QUEUED' then
    run.st, run.f = 'CANCELLED', now
    p.runs[#p.runs + 1] = run
    p.text[run.id] = ''
    p.queueRemove = run.id
  else
    closeRun(p, run, 'CANCELLED', nil, nil, true)
  end
  commit(p)
end
return { 'OK', headOf(x), cjson.encode(run) }
