-- The write of everything that was planned, and the answers.
local function runLine(id, state, p)
  local input = p.input[id] or call('HGET', RUNS, id .. ':input') or ''
  -- a waiting message has a hole for its position; elsewhere white space can only stand between JSON tokens
  input = string.gsub(input, '[\t\n\r]', string.find(state, '"st":"QUEUED"', 1, true) and '0' or ' ')
  local text = p.text[id] or (id ~= p.newRun and call('HGET', RUNS, id .. ':text')) or ''
  local log = p.log[id] or (id ~= p.newRun and call('HGET', RUNS, id .. ':log')) or ''
  -- its lines stand in one here
  return 'R' .. state .. '\t' .. input .. '\t' .. text .. (log == '' and '' or '\t' .. string.gsub(log, '\n', '\t'))
end

-- When somebody should look after the session's runs (0: never), and the run that waits at the head of the queue.
local function dueOf(x)
  local first = there[QUEUE] and call('LINDEX', QUEUE, 0) or nil
  if x.s.active then return tonumber(x.s['until']), first end
  return first and now + 1000 or 0, first
end

-- What lies beside the session, where all is on one server. It comes last, and what fails in it (a key of a foreign type)
-- is told and takes nothing back: the session is written, and the index is mended when a reader finds it stale.
local function writeIndex(x)
  local failure = ''
  local function try(...)
    local answer = redis.pcall(...)
    if type(answer) == 'table' and answer.err then failure = answer.err end
  end
  local due = dueOf(x)
  try('ZADD', KEYS[#KEYS - 2], x.s.updated, H)
  if due > 0 then try('ZADD', KEYS[#KEYS - 1], int(due), H) else try('ZREM', KEYS[#KEYS - 1], H) end
  try('PUBLISH', KEYS[#KEYS], '{"key":' .. cjson.encode(H) .. ',"kind":"' .. (x.fresh and 'added' or 'updated') .. '"}')
  return failure
end

-- The ops outlive the rest, as its tombstone.
local function expireAt(time)
  for _, key in ipairs({ H, S, RUNS, PART, QUEUE }) do call('PEXPIREAT', key, time) end
end

-- The one place that writes. Order: publication, then the list (a keyspace event finds its explanation), then the rest.
-- What is above the most rows is trimmed here, from the oldest on: `base` grows with it, so positions stay.
-- Returns the head of every answer: JSON of what the reader of the result needs to know.
local function commit(p)
  local x, s = p.x, p.x.s
  local set = p.set
  local before = x.n
  local kept = p.trim or x.n
  local finish = x.base + kept
  local whole = kept + #p.push
  local excess = p.removed and 0 or math.max(0, whole - MOST)
  -- Answers whose call goes go with it.
  while excess > 0 and excess < whole do
    if not isAnswer(excess < kept and call('LINDEX', p.staged or H, -(excess + 1)) or p.push[excess - kept + 1]) then break end
    excess = excess + 1
  end
  if x.fresh then
    set.owner, set.gen, set.base, set.token, set.seq, set.read = owner, x.gen, 0, set.token or 0, 0, set.read or 0
    if x.none then
      set.created = set.created or now
      if titles == 't' and not set.title then set.untitled = 1 end -- until its first reply (finish.lua)
      if defaultTtl ~= '' and not set.ttl then set.ttl = defaultTtl end
    end
    p.added = true
  end
  local ttl = set.ttl or (not p.forever and s.ttl) or nil
  x.seq = x.seq + 1

  local states = {}
  for _, run in ipairs(p.runs) do
    if run.f and run.ct then p.uncut[#p.uncut + 1], run.ct = run.id .. ':tools', nil end
    states[run.id] = cjson.encode(run)
  end
  p.states = states
  -- the row before may be trimmed already; where its mark was not kept, its place is told by one that no row has
  local prev = finish > 0 and (s.trimmed or NO_MARK) or ''
  if kept > 0 then
    if kept == before and not (x.fresh or x.foreign or p.staged) then
      prev = s.newest -- load() has looked
    else
      local tip = call('LINDEX', p.staged or H, -kept)
      if tip then prev = mark(tip) end
    end
  end
  local trims = (excess > 0 and 1 or 0) + ((kept < before and kept > 0 and not p.removed) and 1 or 0)
  -- the reply of a run that ends without one more is not in this write
  for _, run in ipairs(p.runs) do if run.rp and run.f and not p.ends[run.id] then p.more = true end end
  local header = { v = 1, seq = x.seq, gen = x.gen, base = x.base + excess, at = finish, prev = prev, pushes = math.ceil(#p.push / 500) + trims }
  header.read = math.min(tonumber(set.read or s.read or 0), finish + #p.push)
  if x.oldGen then header.from = x.oldGen end
  if p.reset then header.reset = p.reset end
  if p.updated then header.upd = 1 end
  if p.added then header.add = 1 end
  if p.removed then header.gone = 1 end
  if x.foreign or p.more then header.more = 1 end
  if p.closed then header.closed = p.closed end
  if #p.push > 0 then header.tip = mark(p.push[#p.push]) end
  -- names this write as no other: also where two servers go on from one copy, by the same numbers and at the same time
  local told = cjson.encode(header)
  local stamp = string.sub(redis.sha1hex(table.concat({ s.stamp or '', clock[1], clock[2], opId, told }, ' ')), 1, 16)
  local lines = { '{"stamp":"' .. stamp .. '",' .. string.sub(told, 2) }
  -- a run that starts, or goes on, is told before its messages, one that ends behind its reply
  local function tell(run) lines[#lines + 1] = runLine(run.id, states[run.id], p) end
  local ended = {}
  for _, run in ipairs(p.runs) do
    if run == p.resumed then
      tell(run)
    elseif run.st ~= 'RUNNING' and run.st ~= 'QUEUED' then
      if p.ends[run.id] then ended[p.ends[run.id]] = run else tell(run) end
    end
  end
  for i, raw in ipairs(p.push) do
    if p.started and p.started.up == finish + i - 1 and not p.started.re then tell(p.started) end
    lines[#lines + 1] = 'M' .. raw
    local run = ended[finish + i - 1]
    if run then tell(run) end
  end
  for _, run in ipairs(p.runs) do
    if run.st == 'QUEUED' or (run == p.started and run.re) then tell(run) end
  end
  local dues = {}
  local function due(at, member)
    dues[#dues + 1] = int(at)
    dues[#dues + 1] = member
  end
  call(publish, CH, table.concat(lines, '\n'))

  if x.purge then call('DEL', S, RUNS, PART, QUEUE) end
  if p.staged then
    call('RENAME', p.staged, H)
    call('PERSIST', H)
    if p.lives then call('PEXPIREAT', H, p.lives) end
  end
  if p.removed then
    call('DEL', H, S, RUNS, PART, QUEUE)
  else
    -- a list that is emptied and filled again keeps the TTL that foreign code gave it
    local lives = kept == 0 and before > 0 and call('PEXPIRETIME', H) or -1
    if kept < before then
      if kept == 0 then call('DEL', H) else call('LTRIM', H, before - kept, -1) end
    end
    if #p.push > 0 then
      for i = 1, #p.push, 500 do call('LPUSH', H, unpack(p.push, i, math.min(i + 499, #p.push))) end
      if kept == 0 and lives > 0 then call('PEXPIREAT', H, lives) end
      set.updated = now
    elseif x.foreign or not s.updated then
      set.updated = now
    end
    if excess > 0 then
      set.trimmed = mark(call('LINDEX', H, whole - excess))
      if excess < whole then call('LTRIM', H, 0, whole - excess - 1) else call('DEL', H) end
    end
    local n = whole - excess
    set.len, set.gen, set.base, set.seq, set.stamp = n, x.gen, x.base + excess, x.seq, stamp
    if s.trimmed and x.base == 0 and excess == 0 then p.drop[#p.drop + 1] = 'trimmed' end
    if s.cuts and not set.cuts and tonumber(s.gen) ~= x.gen then
      -- a new era: of the one before nothing holds
      for generation in string.gmatch(s.cuts, '(%d+):') do p.uncut[#p.uncut + 1] = '!' .. generation end
      p.drop[#p.drop + 1] = 'era'
      p.drop[#p.drop + 1] = 'cuts'
    end
    for i = 1, #p.uncut, 1000 do call('HDEL', RUNS, unpack(p.uncut, i, math.min(i + 999, #p.uncut))) end
    if n > 0 then
      local newest = p.push[#p.push]
      set.newest = newest and mark(newest) or prev
      if excess > 0 then set.oldest = mark(call('LINDEX', H, -1))
      elseif kept == 0 then set.oldest = mark(p.push[1])
      else set.oldest = not x.foreign and s.oldest or mark(call('LINDEX', H, -1)) end
    else
      -- A reader's place is behind the newest row, also where that has been trimmed.
      if x.base + excess > 0 then set.newest = set.trimmed or s.trimmed or NO_MARK else p.drop[#p.drop + 1] = 'newest' end
      p.drop[#p.drop + 1] = 'oldest'
    end
    local behind = x.base + excess + n
    if tonumber(set.read or s.read or 0) > behind then set.read = behind end
    if p.partial and there[PART] then call('DEL', PART) end
    if p.queuePop then call('LPOP', QUEUE) end
    if p.dropQueue then call('DEL', QUEUE) end
    if p.queueRemove then call('LREM', QUEUE, 0, p.queueRemove) end
    if p.queuePush then
      call('RPUSH', QUEUE, p.queuePush)
      there[QUEUE] = true
    end
    if #p.drop > 0 then
      call('HDEL', S, unpack(p.drop))
      for _, field in ipairs(p.drop) do s[field] = nil end
    end

    local expire
    if ttl then
      expire = now + tonumber(ttl) * 1000
      set.xat = expire
    else
      local foreign = n > 0 and call('PEXPIRETIME', H) or -1
      if p.forever and foreign > 0 then call('PERSIST', H); foreign = -1 end
      if foreign > 0 then
        set.xat = foreign
      elseif s.xat then
        call('HDEL', S, 'xat')
        s.xat = nil
      end
    end
    local flat = {}
    for field, value in pairs(set) do
      flat[#flat + 1] = field
      flat[#flat + 1] = type(value) == 'number' and int(value) or value
      s[field] = flat[#flat]
    end
    call('HSET', S, unpack(flat))

    local fields = {}
    local function field(name, value)
      fields[#fields + 1] = name
      fields[#fields + 1] = value
    end
    for _, run in ipairs(p.runs) do
      field(run.id, states[run.id])
      if p.input[run.id] then field(run.id .. ':input', p.input[run.id]) end
      if p.template[run.id] then field(run.id .. ':template', p.template[run.id]) end
      if p.tools[run.id] then field(run.id .. ':tools', p.tools[run.id]) end
      if p.text[run.id] then field(run.id .. ':text', p.text[run.id]) end
      if (p.log[run.id] or '') ~= '' then field(run.id .. ':log', p.log[run.id]) end
    end
    for generation, marked in pairs(p.cut) do field(generation, marked) end
    -- As many as may have waited; of some thousand values unpack makes an error, behind the first write (P2).
    for i = 1, #fields, 1000 do call('HSET', RUNS, unpack(fields, i, math.min(i + 999, #fields))) end
    for _, run in ipairs(p.runs) do
      if run.f then due(now + OPS_MS, 'r:' .. run.id) end
    end

    if expire then
      expireAt(expire)
    elseif p.forever then
      for _, key in ipairs({ S, RUNS, PART, QUEUE }) do call('PERSIST', key) end
    end
  end

  if opId ~= '' then p.ops[#p.ops + 1] = { opId, fingerprint, p.result or '', tonumber(keptMs) } end
  local results = {}
  for _, op in ipairs(p.ops) do
    results[#results + 1] = op[1]
    results[#results + 1] = op[2] .. '\t' .. op[3]
    due(now + op[4], op[1])
  end
  for i = 1, #results, 1000 do call('HSET', OPS, unpack(results, i, math.min(i + 999, #results))) end
  for i = 1, #dues, 1000 do call('ZADD', DUE, unpack(dues, i, math.min(i + 999, #dues))) end
  local over = there[DUE] and call('ZRANGEBYSCORE', DUE, '-inf', now, 'LIMIT', 0, 4) or {}
  for _, member in ipairs(over) do
    local id = string.match(member, '^r:(.*)$')
    if id then
      if id ~= s.last and id ~= s.active then call('HDEL', RUNS, id, id .. ':input', id .. ':text', id .. ':template', id .. ':log') end
    else
      call('HDEL', OPS, member)
    end
    call('ZREM', DUE, member)
  end
  if #p.ops > 0 then call('PEXPIRE', OPS, OPS_MS) end
  if there[DUE] or #dues > 0 then call('PEXPIRE', DUE, OPS_MS * 2) end
  if indexed == '+' then p.indexFailure = writeIndex(x) end
  x.plan = p
  return p
end

-- Writes that are no commit() let the session's TTL slide too: a reply may take longer than it. Where the list is gone
-- they don't, or the session would outlive it: what there is goes with the record.
local function slide(ttl)
  if not ttl then return end
  local expire = there[H] and now + tonumber(ttl) * 1000 or call('PEXPIRETIME', S)
  if there[H] then call('HSET', S, 'xat', int(expire)) end
  if expire > 0 then expireAt(int(expire)) end
end

-- What each answer begins with, read after the writes: JSON (Head in replies.ts).
local function headOf(x)
  local s = x.s
  local head = { now = now, added = x.fresh or nil, updated = tonumber(s.updated or now), due = 0, expires = 0 }
  head.generation, head.base = tonumber(s.gen or x.gen), tonumber(s.base or x.base)
  if x.plan then head.indexed = x.plan.indexFailure end
  local due, first = dueOf(x)
  head.due = due
  if first then
    local run = runOf(first)
    head.nextOwner = run and run.own or ''
    head.free = not s.active or nil
  end
  -- also where the list alone expires, by foreign code: the record is to go with it
  if s.xat then head.expires = tonumber(s.xat) end
  return cjson.encode(head)
end

-- The tools that the page has given a run.
local function toolsOf(run)
  return run.ct and call('HGET', RUNS, run.id .. ':tools') or ''
end

-- What the process that has the turn needs for it.
local function startedAnswer(x, run, state, turn)
  local memory, instructions, summary, low, input, rows = unpack(turn)
  return { 'STARTED', headOf(x), state, input, memory, instructions, summary, low, rows, x.s.owner, toolsOf(run) }
end

-- The same for a run that this very attempt started before its reply was lost.
local function startedAgain(x, run, o)
  local memory = memoryOf(x, o.memory)
  local low = memoryFrom(x, run.up, memory, o.most, function(a, b) return rowsOf(x, a, b - 1) end)
  local summary = summaryOf(x, memory, run.up)
  if summary ~= '' then low = math.max(low, tonumber(x.s.sumPos) + 1) end
  local turn = { memory, x.s.instructions or '', summary, int(low), call('HGET', RUNS, run.id .. ':input'), rowsOf(x, low, run.up - 1) }
  return startedAnswer(x, run, cjson.encode(run), turn)
end

-- The same for a run that has waited, with what it goes on with.
local function startedAfterWaiting(x, run, o)
  local answer = startedAgain(x, run, o)
  answer[#answer + 1] = call('HGET', RUNS, run.id .. ':log') or ''
  answer[#answer + 1] = call('HGET', RUNS, run.id .. ':wait') or ''
  for k = 1, stepSize(run) do answer[#answer + 1] = call('HGET', RUNS, run.id .. ':decision:' .. k) or '' end
  return answer
end
