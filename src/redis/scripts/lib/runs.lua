-- How runs begin and end: their text, their lease, the queue, and the rows that a turn reads.

-- The rows of the step that a run has open (steps/step.lua), as head and tail: the reply that calls tools, then of each call
-- what answered it, or the row that stands in for an answer which is not there. Empty where none is open, and where none of its
-- calls has begun, as it waits or has waited; then the row of its text alone comes second, nil where it has none.
-- The fields go with the plan, whatever becomes of the rows. `claims`: its calls are claimed by this very write.
local function stepRows(p, run, claims)
  local key = run.id .. ':step'
  local count, head, tail = string.match(call('HGET', RUNS, key) or '', '^(%d+)\t([^\t]*)\t([^\t]*)$')
  if not count then return {} end
  local rows = { { head, tail } }
  local said = call('HGET', RUNS, run.id .. ':said')
  for _, field in ipairs({ key, run.id .. ':said', run.id .. ':wait' }) do p.uncut[#p.uncut + 1] = field end
  for k = 1, tonumber(count) do
    local claim, answer = run.id .. ':call:' .. k, run.id .. ':answer:' .. k
    local row = call('HGET', RUNS, answer) or string.match(call('HGET', RUNS, claim) or '', '^.*\t([^\t]*\t[^\t]*)$') or ''
    local from, to = string.match(row, '^([^\t]*)\t([^\t]*)$')
    if from then rows[#rows + 1] = { from, to } end
    p.uncut[#p.uncut + 1] = claim
    p.uncut[#p.uncut + 1] = answer
    p.uncut[#p.uncut + 1] = run.id .. ':decision:' .. k
  end
  if not said or claims then return rows end
  local from, to = string.match(said, '^([^\t]+)\t([^\t]*)$')
  return {}, from and { from, to } or nil
end

-- How many calls of a run's open step there are; nil where none is open.
local function stepSize(run)
  return tonumber(string.match(call('HGET', RUNS, run.id .. ':step') or '', '^%d+'))
end

-- Whether each call of a run's open step has its answer.
local function isAnswered(run, count)
  for k = 1, count do
    if not call('HGET', RUNS, run.id .. ':answer:' .. k) then return false end
  end
  return true
end

-- Whether a run goes on behind its last decision and has claimed none of its calls yet, which ends its state (steps/claim.lua):
-- whoever has it may die, and another process carries it on.
local function isUnclaimed(run)
  return run.st == 'RUNNING' and call('HGET', RUNS, run.id .. ':wait')
end

-- Lines for the active run's part log, which readers are told at once.
local function addLines(s, id, lines, linesAdded)
  call(publish, CH, 'P' .. id .. '\t' .. (s.plen or '0') .. '\t\t' .. s.llen .. '\t' .. lines)
  call('HSET', RUNS, id .. ':log', (call('HGET', RUNS, id .. ':log') or '') .. lines)
  s.llen = int(tonumber(s.llen) + tonumber(linesAdded))
  call('HSET', S, 'llen', s.llen)
end

-- Appends rows of a run, of which the one with the number `reply` is its newest reply. Its end, if this is it, is told
-- behind them.
local function pushOwn(p, run, rows, reply)
  if #rows == 0 then return end
  local position = p.x.base + (p.trim or p.x.n) + #p.push
  for i, row in ipairs(rows) do
    local raw = fill(row[1], position + i - 1, row[2], row[3])
    p.push[#p.push + 1] = raw
    if i == reply then run.rp, run.rm = position + i - 1, mark(raw) end
  end
  run.fr, run.to = run.fr or position, position + #rows - 1
  p.ends[run.id] = run.to
end

-- A row of the gateway's as it lies at another position, which its note holds; who has its old place finds it by that.
local function moved(p, raw, from, to)
  local tail = ',"position":' .. int(from) .. '}}}}'
  local note = '"parley":{"session":"' .. string.sub(redis.sha1hex(H), 1, 8) .. '"'
  if string.sub(raw, -#tail) ~= tail or not string.find(raw, note, math.max(1, #raw - 200), true) then return raw end
  local row = string.sub(raw, 1, -#tail - 1) .. ',"position":' .. int(to) .. '}}}}'
  p.ops[#p.ops + 1] = { 'p:' .. int(from) .. ' ' .. mark(raw), '', int(to) .. ' ' .. mark(row), OPS_MS }
  return row
end

-- The same in place of the reply that the run makes anew, where it does. What others appended meanwhile stays, behind it;
-- retention may have trimmed the old reply since.
local function pushInPlace(p, run, rows, reply)
  local x, later = p.x, {}
  local finish = x.base + x.n
  if run.cut then
    later = rowsOf(x, run.seen, finish - 1)
    local position = math.max(run.cut, x.base)
    cut(p, position)
    -- the old reply was read, the new one is not
    p.set.read = math.min(tonumber(x.s.read or 0), position)
    run.cut = nil
  end
  pushOwn(p, run, rows, reply)
  for i = #later, 1, -1 do
    local from, to = finish - i, x.base + (p.trim or x.n) + #p.push
    p.push[#p.push + 1] = from == to and later[i] or moved(p, later[i], from, to)
    p.more = true
  end
end

-- Closes a running or waiting run from outside. `keeps`: 'text': its text so far is appended as a message, unless it would stand in
-- for a reply that is only replaced by a complete one; 'step': only what tools were called for; false: nothing. Of an open
-- step the calls may have taken effect: it is appended with what is known of them, also behind a reply that was to be replaced.
local function closeRun(p, run, status, code, message, keeps)
  local text = call('GET', PART) or ''
  run.st, run.f = status, now
  if status == 'FAILED' then run.code, run.msg, run.rt = code, message, 1 end
  p.text[run.id] = text
  run.wu = nil
  local step, said = stepRows(p, run)
  if keeps then pushOwn(p, run, step, 1) end
  if keeps == 'text' and said and not run.cut then pushOwn(p, run, { said }, 1) end
  if keeps == 'text' and #step == 0 and text ~= '' and not run.cut then
    local head, middle, tail = string.match(call('HGET', RUNS, run.id .. ':template') or '', '^([^\t]*)\t([^\t]*)\t([^\t]*)$')
    if head then pushOwn(p, run, { { head .. text .. middle, tail, run.hint } }, 1) end
  end
  p.runs[#p.runs + 1] = run
  p.closed = run.id
  p.partial = true
  p.drop[#p.drop + 1] = 'active'
  p.drop[#p.drop + 1] = 'until'
  p.x.s.active = nil
end

-- Reconciling found rows gone: the active run's question may be among them, so it ends here, its text kept (P4).
local function settleLoss(p)
  local x = p.x
  if not x.lost then return end
  p.reset = 0
  -- what is appended from here on was read by nobody
  p.set.read = math.min(tonumber(x.s.read or 0), x.n)
  x.s.read = p.set.read
  if x.s.active then
    local run = runOf(x.s.active)
    if run then closeRun(p, run, 'FAILED', 'RUN_LOST', 'The history that this reply belonged to was lost.', false) end
  end
end

-- How often a run is carried on by another process: what ends each that tries ends no more than these.
local TAKEOVERS = 3

-- The active run, where its lease ended more than `grace` ms ago and it is to be carried on (turn/attend.lua); nil otherwise.
local function leftRun(x, grace)
  if not x.s.active or tonumber(x.s['until']) + tonumber(grace) >= now then return nil end
  local run = runOf(x.s.active)
  return run and isUnclaimed(run) and (run.took or 0) < TAKEOVERS and run or nil
end

-- Closes an active run whose lease ended more than `grace` ms ago (P6), or which nobody has answered in time. `keeps`: as
-- closeRun() has it.
local function settleLease(p, grace, keeps)
  local x = p.x
  if x.s.active and tonumber(x.s['until']) + tonumber(grace) < now and not leftRun(x, grace) then
    local run = runOf(x.s.active)
    if run and run.st == 'WAITING' then
      closeRun(p, run, 'FAILED', 'APPROVAL_EXPIRED', 'Its calls of tools were not decided on, or not answered, in time.', keeps)
    elseif run then
      closeRun(p, run, 'FAILED', 'RUN_LOST', 'The process that made this reply died before it was complete.', keeps)
    else
      p.drop[#p.drop + 1] = 'active'
      p.drop[#p.drop + 1] = 'until'
      x.s.active = nil
    end
  end
end

-- Cancels the run that is going and those that wait, whose history goes.
local function cancelRuns(p)
  local active = p.x.s.active and runOf(p.x.s.active)
  if active then closeRun(p, active, 'CANCELLED', nil, nil, false) end
  for _, id in ipairs(call('LRANGE', QUEUE, 0, -1)) do
    local run = runOf(id)
    if run then
      run.st, run.f = 'CANCELLED', now
      p.text[id] = ''
      p.runs[#p.runs + 1] = run
    end
  end
  p.dropQueue = true
end

-- LangChain's types of what a person says, and those whose role is free text (read-message.ts has the same).
local userTypes = { human = true, HumanMessageChunk = true }
local freeTypes = { chat = true, generic = true, ChatMessageChunk = true, GenericMessageChunk = true }

-- Whether clients see the row with role USER. What is escaped in its texts does not matter here, and cjson refuses some of it.
local function isUser(raw)
  -- Most writers' rows begin so, and those need not be decoded.
  local name = string.match(raw, '^%s*{%s*"type"%s*:%s*"(%a+)"%s*,%s*"data"%s*:%s*{')
  if name and not freeTypes[name] and string.sub(raw, -2) == '}}' then return userTypes[name] or false end
  if not (string.find(raw, '[Hh]uman') or string.find(raw, 'user', 1, true)) then return false end
  local ok, row = pcall(cjson.decode, (string.gsub(raw, '\\.', '?')))
  if not ok or type(row) ~= 'table' then return false end
  local data = type(row.data) == 'table' and row.data or (type(row.text) == 'string' and row)
  if not data then return false end
  return userTypes[row.type] or (freeTypes[row.type] and (data.role == 'user' or data.role == 'human')) or false
end

-- The newest USER row below a position; looks at no more than 400 rows.
local function userBelow(x, position)
  for _, p in ipairs({ 20, 400 }) do
    local b = position - 1
    local a = math.max(x.base, position - p)
    for i, raw in ipairs(rowsOf(x, a, b)) do
      if isUser(raw) then return b - i + 1, raw end
    end
  end
  return nil
end

-- The session's memory: "STRATEGY:turns:tokens".
local function memoryOf(x, default)
  local s = x.s
  if s.mem then return s.mem .. ':' .. (s.memTurns or '') .. ':' .. (s.memTokens or '') end
  return default
end

-- Position of the first row that the memory strategy may need below a position. `rows(a, b)`: those of a..b-1, newest first.
local function memoryFrom(x, below, memory, most, rows)
  local strategy, turns, tokens = string.match(memory, '^(.-):(.-):(.-)$')
  if strategy == 'TOKEN_BUFFER' or strategy == 'SUMMARY_BUFFER' then
    most = math.min(most, math.ceil((tonumber(tokens) or 2000) / 2) + 8)
  end
  local lowest = math.max(x.base, below - most)
  if strategy ~= 'WINDOW' then return lowest end
  local left = tonumber(turns) or 10
  if left < 1 then return below end
  -- A turn is two rows mostly; one with tools may have any number.
  local size, high = left * 2, below
  while high > lowest do
    local low = math.max(lowest, high - size)
    for i, raw in ipairs(rows(low, high)) do
      if isUser(raw) then
        left = left - 1
        if left == 0 then return high - i end
      end
    end
    high = low
  end
  return lowest
end

-- What the memory has of the rows below a position in short; '' where it has nothing.
local function summaryOf(x, memory, below)
  local s = x.s
  if string.sub(memory, 1, 14) ~= 'SUMMARY_BUFFER' or not s.sumText or tonumber(s.sumPos) >= below then return '' end
  return holds(x, s.sumGen, s.sumPos, s.sumMark) and s.sumText or ''
end

-- Rows of the positions from..below-1 as they will lie once the plan is written, newest first.
local function rowsBelow(p, from, below)
  local finish = p.x.base + p.x.n
  local rows = {}
  for at = below - 1, math.max(from, finish), -1 do rows[#rows + 1] = p.push[at - finish + 1] end
  for _, raw in ipairs(rowsOf(p.x, from, math.min(below, finish) - 1)) do rows[#rows + 1] = raw end
  return rows
end

-- Gives the user's message of a run the local part of its id, with a hint of where it will lie unless the caller chose it.
local function nameInput(run, hint)
  if not run.uid then return end
  run.uh = hint
  run.ul = run.uc and run.uid or '~' .. base36(hint) .. '~' .. run.uid
  run.uid, run.uc = nil, nil
end

-- Starts a run: QUEUED (or new) -> RUNNING. Returns nil and a code where its place in the history no longer holds.
-- o: leaseMs, memory (default), most (rows)
local function start(p, run, o)
  local x, s = p.x, p.x.s
  local finish = x.base + x.n + #p.push
  local userAt, userRaw
  if run.re then
    if #p.push > 0 then return nil, 'EXPIRED' end
    local cut = finish
    if run.cg then
      if not holds(x, run.cg, run.cp, run.cm) then return nil, 'EXPIRED' end
      cut = run.cp
    end
    userAt, userRaw = userBelow(x, cut)
    if not userAt then return nil, 'NOTHING' end
    if not run.cg then cut = userAt + 1 end
    if cut < finish then run.cut = cut end
    run.seen = finish
    p.input[run.id] = userRaw
  else
    if run.cg then
      if #p.push > 0 or not holds(x, run.cg, run.cp, run.cm) or run.cp < x.base then return nil, 'EXPIRED' end
      cut(p, run.cp)
      finish = run.cp
    end
    userAt = finish
    local head, tail = string.match(p.input[run.id] or call('HGET', RUNS, run.id .. ':input'), '^([^\t]*)\t([^\t]*)$')
    nameInput(run, userAt)
    userRaw = fill(head, userAt, tail, run.uh)
    p.input[run.id] = userRaw
    p.push[#p.push + 1] = userRaw
    -- what was unread before the message counts as read, which nobody can tell from the message alone
    if tonumber(s.read or 0) < userAt then p.updated = true end
    p.set.read = math.max(tonumber(s.read or 0), userAt + 1)
  end
  x.token = x.token + 1
  run.st, run.s, run.tok, run.up, run.um = 'RUNNING', now, x.token, userAt, mark(userRaw)
  p.runs[#p.runs + 1] = run
  p.started = run
  p.partial = true
  p.set.active, p.set.token, p.set['until'], p.set.last, p.set.plen, p.set.llen = run.id, x.token, now + o.leaseMs, run.id, 0, 0
  s.active = run.id

  local memory = memoryOf(x, o.memory)
  local low = memoryFrom(x, userAt, memory, o.most, function(a, b) return rowsBelow(p, a, b) end)
  local summary = summaryOf(x, memory, userAt)
  if summary ~= '' then low = math.max(low, tonumber(s.sumPos) + 1) end
  p.turn = { memory, s.instructions or '', summary, int(low), userRaw, rowsBelow(p, low, userAt) }
  return true
end
