-- What all session scripts share. A script reads and checks first, notes what it wants in a plan, and writes in
-- commit() alone: an error midway keeps what was written, so nothing may fail behind the first write (P2).
--
-- KEYS: 1 history (list), 2 session (hash), 3 runs (hash), 4 partial (string), 5 queue (list), 6 ops (hash),
--       7 ops-due (zset), 8 events (channel). All in one slot. On a single server a turn's scripts have three more behind
--       their own: the owner's sessions (zset), the deadlines (zset) and the owner's sidebar (channel).
-- ARGV: 1 PUBLISH or SPUBLISH, or "PUBLISH+" where there are these three, 2 owner ("*": the gateway itself), 3 "1" where a touch adopts foreign histories, "0" where
--       a list without a record is nobody's, "2" where nothing without a record is there at all and none is started,
--       then "t" where sessions that are started without a title get one by themselves, and behind a colon the most rows
--       that a history keeps, where there is such a limit; 4 default TTL in seconds or "", 5 op id or "", 6 fingerprint of what the op does, 7 how long the op is kept in ms.
--       A script's own arguments start at 8.
local H, S, RUNS, PART, QUEUE, OPS, DUE, CH = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7], KEYS[8]
local call = redis.call
local clock = call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local OPS_MS = 90000000 -- 25 hours (P8)
local adopts, titles, most = string.match(ARGV[3], '^(%d)(t?):?(%d*)$')
local MOST = tonumber(most) or math.huge
local publish, indexed = string.match(ARGV[1], '^(%u+)(%+?)$')

local NO_MARK = '0000000000000000'

local function int(n) return string.format('%.0f', n) end

-- What UTF-8 can begin with, by the first byte, and how many bytes are the whole of it.
local sequences = {
  { '^[\194-\223][\128-\191]', 2 },
  { '^\224[\160-\191][\128-\191]?', 3 },
  { '^[\225-\236\238\239][\128-\191][\128-\191]?', 3 },
  { '^\237[\128-\159][\128-\191]?', 3 },
  { '^\240[\144-\191][\128-\191]?[\128-\191]?', 4 },
  { '^[\241-\243][\128-\191][\128-\191]?[\128-\191]?', 4 },
  { '^\244[\128-\143][\128-\191]?[\128-\191]?', 4 },
}
local REPLACEMENT = '\239\191\189'

-- A byte above 127 with all that could continue it, as a decoder of UTF-8 has it (WHATWG): what begins a character and
-- does not end it is one replacement character, and so is each byte that can do neither.
local function decodedRun(run)
  for _, sequence in ipairs(sequences) do
    local _, taken = string.find(run, sequence[1])
    if taken then
      local first = taken == sequence[2] and string.sub(run, 1, taken) or REPLACEMENT
      return first .. string.rep(REPLACEMENT, #run - taken)
    end
  end
  return string.rep(REPLACEMENT, #run)
end
local decodedRuns = setmetatable({}, { __index = function(known, run)
  known[run] = decodedRun(run)
  return known[run]
end })

-- The same that markOf() makes of a row which its process has decoded: foreign code may write what is no UTF-8, and with
-- a mark of the bytes each of these would look like a loss.
local marks = {}
local function mark(raw)
  local known = marks[raw]
  if not known then
    local text = raw
    -- Of what is ASCII, anchored takes a third of the time.
    if string.match(raw, '^[^\128-\255]*()') <= #raw then text = string.gsub(raw, '[\128-\255][\128-\191]*', decodedRuns) end
    known = string.sub(redis.sha1hex(text), 1, 16)
    marks[raw] = known
  end
  return known
end

-- Which of the keys there are, as their types told: what is not there need not be asked.
local there = {}
local function expectType(key, wanted)
  local kind = call('TYPE', key).ok
  there[key] = kind ~= 'none'
  return kind == wanted or kind == 'none'
end

-- The code to answer with where a key has a foreign type: NOT_FOUND for the history, CORRUPT for the gateway's own.
local function wrongType()
  if not expectType(H, 'list') then return 'NOT_FOUND' end
  if not (expectType(S, 'hash') and expectType(RUNS, 'hash') and expectType(PART, 'string') and expectType(QUEUE, 'list')
      and expectType(OPS, 'hash') and expectType(DUE, 'zset')) then
    return 'CORRUPT'
  end
  return nil
end

-- LangChain's types of messages, chunks apart. A job queue's rows are often {"type","data"} too, so the type must be one.
local messageTypes = {
  human = true, ai = true, system = true, developer = true, tool = true, ['function'] = true, chat = true,
  generic = true, remove = true,
}

local function isMessageType(name)
  return messageTypes[name] or string.find(name, '^%u%a*MessageChunk$') ~= nil
end

-- Whether a row looks like a stored message. cjson refuses lone surrogates that JSON.stringify writes, hence the pattern.
local function isMessage(raw)
  if not raw then return false end
  local ok, row = pcall(cjson.decode, raw)
  if ok then
    return type(row) == 'table' and type(row.type) == 'string' and isMessageType(row.type)
      and (type(row.data) == 'table' or type(row.text) == 'string')
  end
  local name = string.match(raw, '^%s*{%s*"type"%s*:%s*"(%a+)"%s*,%s*"[dt][ae][tx][at]"')
  return name ~= nil and isMessageType(name)
end

-- A new generation never has a number that another had: after a failover the same history may go on otherwise, and a
-- number counted up would name both.
local function newGeneration(x)
  return math.max(x.gen + 1, now)
end

-- The session as it is: the record held against the list. Writes nothing.
-- Returns nil and a code: NOT_FOUND, or CORRUPT where one of the gateway's own keys has a foreign type; and behind
-- NOT_FOUND whether the history key holds something that is no history, so that no session can begin there.
local function load()
  local wrong = wrongType()
  if wrong then return nil, wrong, true end
  -- asked also where nothing is: another's session must not take more work than one that there is not (P11)
  local flat = call('HGETALL', S)
  local x = { n = call('LLEN', H), seq = 0, token = 0, fresh = #flat == 0 }
  local s = {}
  for i = 1, #flat, 2 do s[flat[i]] = flat[i + 1] end
  x.s = s
  if not x.fresh then
    if ARGV[2] ~= '*' and s.owner ~= ARGV[2] then return nil, 'NOT_FOUND' end
    local len = tonumber(s.len)
    if len > 0 and x.n == 0 and s.xat and tonumber(s.xat) <= now then
      -- the list expired and the record has outlived it: the session is gone, what comes now is a new one
      if adopts == '2' then return nil, 'NOT_FOUND' end
      there[QUEUE] = false -- its runs wait for nothing any more
      return { s = {}, n = 0, seq = tonumber(s.seq), token = tonumber(s.token), fresh = true, none = true, purge = true, gen = now, base = 0, len = 0 }
    end
    x.seq, x.token = tonumber(s.seq), tonumber(s.token)
    x.gen, x.base, x.len = tonumber(s.gen), tonumber(s.base), len
    if len > 0 and (x.n < len or mark(call('LINDEX', H, -len)) ~= s.newest or mark(call('LINDEX', H, -1)) ~= s.oldest) then
      x.lost = true -- Redis or foreign code took rows that were recorded (P4)
      x.oldGen, x.gen, x.base = x.gen, newGeneration(x), 0
    end
    x.foreign = x.lost or x.n > len
  elseif x.n > 0 then
    -- a list without a record counts as a history only where its ends are messages; a job queue is a list too (P11)
    local history = isMessage(call('LINDEX', H, 0)) and isMessage(call('LINDEX', H, -1))
    if adopts ~= '1' or ARGV[2] == '*' or not history then return nil, 'NOT_FOUND', not history end
    x.gen, x.base, x.len, x.foreign = now, 0, 0, true
  elseif adopts == '2' then
    return nil, 'NOT_FOUND'
  else
    x.gen, x.base, x.len, x.none = now, 0, 0, true
  end
  return x
end

local function rowAt(x, position)
  if position < x.base or position >= x.base + x.n then return nil end
  return call('LINDEX', H, -(position - x.base + 1))
end

-- Rows of the positions a..b, newest first as they lie; those that retention trimmed are left out.
local function rowsOf(x, a, b)
  a = math.max(a, x.base)
  if b < a then return {} end
  return call('LRANGE', H, -(b - x.base + 1), -(a - x.base + 1))
end

-- How long a cursor lives (P3, P4): as long as its row. A generation begins where a history starts, is cleared, rewound
-- or lost. `era` is the generation of the last start, clear or loss: no older cursor holds. `cuts` are our own rewinds
-- since then, oldest first, as "generation:position" with commas between: of a cursor that is older, what is at the
-- position or above it is gone. A record without the two was not rewound since its generation began. Where the newest of
-- the two is not the record's generation, a gateway that knows neither has written it, and its generation is the era.
local CUTS_KEPT = 32
local function lifeOf(x)
  if x.life then return x.life end
  local era, cuts = tonumber(x.s.era), {}
  for generation, position in string.gmatch(era and x.s.cuts or '', '(%d+):(%d+)') do
    cuts[#cuts + 1] = { generation = tonumber(generation), position = tonumber(position) }
  end
  local newest = #cuts > 0 and cuts[#cuts].generation or era
  if newest ~= x.gen then era, cuts = x.gen, {} end
  x.life = { era = era, cuts = cuts }
  return x.life
end

-- Whether this history ever was of the generation. One that a failover took with it is of no use: what that history
-- had may lie elsewhere here, or not at all.
local function isKnown(x, generation)
  if generation == x.gen then return true end
  local life = lifeOf(x)
  if generation == life.era then return true end
  for _, cut in ipairs(life.cuts) do if cut.generation == generation then return true end end
  return #life.cuts == CUTS_KEPT and generation > life.era and generation < life.cuts[1].generation
end

-- The position that a cursor of this generation must be below; nil: none of it holds.
local function limitOf(x, generation)
  if x.lost or not isKnown(x, generation) then return nil end
  local limit = math.huge
  if generation == x.gen then return limit end
  for _, cut in ipairs(lifeOf(x).cuts) do
    if cut.generation > generation then limit = math.min(limit, cut.position) end
  end
  return limit
end

-- Whether a cursor holds. Where retention trimmed its row, it does while nothing behind that is missing.
local function holds(x, generation, position, m)
  local limit, p = limitOf(x, tonumber(generation)), tonumber(position)
  if not limit or p >= limit then return false end
  if p < x.base then return p == x.base - 1 and (m == NO_MARK or m == (x.s.trimmed or m)) end
  local row = rowAt(x, p)
  return row ~= nil and row ~= false and mark(row) == m
end

-- Whether it is a loss (P4) that a place which a gateway has seen does not hold: by the rule above it must, and another
-- row lies there, or none. What was cut, or trimmed by retention, is none, nor what another history had.
local function isLost(x, generation, position)
  local limit = limitOf(x, generation)
  return limit and position < limit and position >= x.base
end

-- Where who held a cut cursor goes on: the position below which all is as it was, and the mark of the row before it; nil
-- where that is not sure. After a failover the row of the cursor may never have been in this history: its mark must
-- begin as that of the row which was cut there.
local function keptOf(x, generation, position, m)
  local kept, first = limitOf(x, generation), nil
  for _, cut in ipairs(kept and lifeOf(x).cuts or {}) do
    if cut.generation > generation and cut.position <= position then first = first or cut end
  end
  local from, marked = string.match(first and call('HGET', RUNS, '!' .. int(first.generation)) or '', '^(%d+):(%x+)$')
  local at = from and (position - from) * 4
  if not at or at < 0 or string.sub(marked, at + 1, at + 4) ~= string.sub(m, 1, 4) or kept < x.base then return nil end
  if kept == 0 then return 0, '' end
  return kept, kept > x.base and mark(rowAt(x, kept - 1)) or x.s.trimmed or NO_MARK
end

local function runOf(id)
  local raw = call('HGET', RUNS, id)
  if not raw then return nil end
  return cjson.decode(raw)
end

-- Where a row is now that was written at this place ("position mark"): finish.lua notes each row that it moves.
local function placeNow(place)
  local moved = call('HGET', OPS, 'p:' .. place)
  if not moved then return place end
  return placeNow(string.sub(moved, 2))
end

-- A known op: its fingerprint and result. The op outlives the session as its tombstone.
local function knownOp(id)
  if id == '' then return nil end
  local raw = call('HGET', OPS, id)
  if not raw then return nil end
  local fingerprint, result = string.match(raw, '^([^\t]*)\t(.*)$')
  if string.find(result, '^%d+ %x+') then result = string.gsub(result, '%d+ %x+', placeNow) end
  return { fingerprint = fingerprint, result = result }
end

-- A row with its position in the hole. An id that the gateway made carries a hint of it too, which nobody knew before.
local function fill(head, position, tail, hint)
  head = string.gsub(head, '"hint":0,"position":$', '"hint":' .. int(hint or position) .. ',"position":')
  return head .. int(position) .. tail
end

local digits = '0123456789abcdefghijklmnopqrstuvwxyz'
local function base36(n)
  local text = ''
  repeat
    local rest = n % 36
    text = string.sub(digits, rest + 1, rest + 1) .. text
    n = (n - rest) / 36
  until n == 0
  return text
end

local function plan(x)
  return { x = x, push = {}, runs = {}, text = {}, input = {}, template = {}, set = {}, drop = {}, ops = {}, cut = {}, uncut = {} }
end

-- Rewinds the history to the position, in a new generation. What the marks of the newest rows that go begin with stays
-- with the runs, for keptOf(). Cuts of which there are too many become one, at the lowest position.
local CUT_ROWS, CUT_BYTES = 200, 1000000
local function cut(p, position)
  local x = p.x
  local life, from, marked, bytes = lifeOf(x), x.base + x.n, '', 0
  while from > position and #marked < 4 * CUT_ROWS and bytes < CUT_BYTES do
    local raw = call('LINDEX', H, x.base + x.n - from)
    from, marked, bytes = from - 1, string.sub(mark(raw), 1, 4) .. marked, bytes + #raw
  end
  x.oldGen, x.gen = x.oldGen or x.gen, newGeneration(x)
  local cuts = life.cuts
  cuts[#cuts + 1] = { generation = x.gen, position = position }
  p.cut['!' .. int(x.gen)] = int(from) .. ':' .. marked
  if #cuts > CUTS_KEPT then
    p.uncut[#p.uncut + 1] = '!' .. int(cuts[1].generation)
    cuts[2].position = math.min(cuts[1].position, cuts[2].position)
    table.remove(cuts, 1)
  end
  local packed = {}
  for _, one in ipairs(cuts) do packed[#packed + 1] = int(one.generation) .. ':' .. int(one.position) end
  p.set.era, p.set.cuts = life.era, table.concat(packed, ',')
  p.reset, p.trim = math.min(p.reset or position, position), position - x.base
end

-- The text of an active run, closed: kept in the run, and for a stopped one appended as a message unless it would
-- stand in for a reply that is only replaced by a complete one.
local function closeRun(p, run, status, code, message, append)
  local text = call('GET', PART) or ''
  run.st, run.f = status, now
  if status == 'FAILED' then run.code, run.msg, run.rt = code, message, 1 end
  p.text[run.id] = text
  if append and text ~= '' and not run.cut then
    local head, middle, tail = string.match(call('HGET', RUNS, run.id .. ':template') or '', '^([^\t]*)\t([^\t]*)\t([^\t]*)$')
    if head then
      local position = p.x.base + p.x.n + #p.push
      local raw = head .. text .. fill(middle, position, tail, run.hint)
      p.push[#p.push + 1] = raw
      run.rp, run.rm = position, mark(raw)
    end
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

-- Closes an active run whose lease ended more than `grace` ms ago (P6).
local function settleLease(p, grace)
  local x = p.x
  if x.s.active and tonumber(x.s['until']) + tonumber(grace) < now then
    local run = runOf(x.s.active)
    if run then
      closeRun(p, run, 'FAILED', 'RUN_LOST', 'The process that made this reply died before it was complete.', false)
    else
      p.drop[#p.drop + 1] = 'active'
      p.drop[#p.drop + 1] = 'until'
      x.s.active = nil
    end
  end
end

local function cancelQueue(p)
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
  p.set.active, p.set.token, p.set['until'], p.set.last, p.set.plen = run.id, x.token, now + o.leaseMs, run.id, 0
  s.active = run.id

  local memory = memoryOf(x, o.memory)
  local low = memoryFrom(x, userAt, memory, o.most, function(a, b) return rowsBelow(p, a, b) end)
  local summary = ''
  if string.sub(memory, 1, 14) == 'SUMMARY_BUFFER' and s.sumText and holds(x, s.sumGen, s.sumPos, s.sumMark) and tonumber(s.sumPos) < userAt then
    summary = s.sumText
    low = math.max(low, tonumber(s.sumPos) + 1)
  end
  p.turn = { memory, s.instructions or '', summary, int(low), userRaw, rowsBelow(p, low, userAt) }
  return true
end

local function runLine(id, state, p)
  local input = p.input[id] or call('HGET', RUNS, id .. ':input') or ''
  -- a waiting message has a hole for its position; elsewhere white space can only stand between JSON tokens
  input = string.gsub(input, '[\t\n\r]', string.find(state, '"st":"QUEUED"', 1, true) and '0' or ' ')
  local text = p.text[id] or (id ~= p.newRun and call('HGET', RUNS, id .. ':text')) or ''
  return 'R' .. state .. '\t' .. input .. '\t' .. text
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
  local excess = p.removed and 0 or math.max(0, kept + #p.push - MOST)
  if x.fresh then
    set.owner, set.gen, set.base, set.token, set.seq, set.read = ARGV[2], x.gen, 0, set.token or 0, 0, set.read or 0
    if x.none then
      set.created = set.created or now
      if titles == 't' and not set.title then set.untitled = 1 end -- until its first reply (finish.lua)
      if ARGV[4] ~= '' and not set.ttl then set.ttl = ARGV[4] end
    end
    p.added = true
  end
  local ttl = set.ttl or (not p.forever and s.ttl) or nil
  x.seq = x.seq + 1

  local states = {}
  for _, run in ipairs(p.runs) do states[run.id] = cjson.encode(run) end
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
  local header = { v = 1, seq = x.seq, gen = x.gen, base = x.base + excess, at = finish, prev = prev, pushes = math.ceil(#p.push / 500) + trims }
  header.read = math.min(tonumber(set.read or s.read or 0), finish + #p.push)
  if x.oldGen then header.from = x.oldGen end
  if p.reset then header.reset = p.reset end
  if p.updated then header.upd = 1 end
  if p.added then header.add = 1 end
  if p.removed then header.gone = 1 end
  if x.foreign or p.more then header.more = 1 end
  if p.closed then header.closed = p.closed end
  local lines = { cjson.encode(header) }
  -- a run that starts is told before its message, one that ends behind its reply
  local function tell(run) lines[#lines + 1] = runLine(run.id, states[run.id], p) end
  for _, run in ipairs(p.runs) do if run.st ~= 'RUNNING' and run.st ~= 'QUEUED' and not run.rp then tell(run) end end
  local ended = {}
  for _, run in ipairs(p.runs) do if run.rp and run.st ~= 'RUNNING' then ended[run.rp] = run end end
  for i, raw in ipairs(p.push) do
    if p.started and p.started.up == finish + i - 1 and not p.started.re then tell(p.started) end
    lines[#lines + 1] = 'M' .. raw
    local run = ended[finish + i - 1]
    if run then tell(run) end
  end
  for _, run in ipairs(p.runs) do
    if run.st == 'QUEUED' or (run.st == 'RUNNING' and run.re) then tell(run) end
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
      set.trimmed = mark(call('LINDEX', H, MOST))
      call('LTRIM', H, 0, MOST - 1)
    end
    local n = kept + #p.push - excess
    set.len, set.gen, set.base, set.seq = n, x.gen, x.base + excess, x.seq
    if s.trimmed and x.base == 0 and excess == 0 then p.drop[#p.drop + 1] = 'trimmed' end
    if s.cuts and not set.cuts and tonumber(s.gen) ~= x.gen then
      -- a new era: of the one before nothing holds
      for generation in string.gmatch(s.cuts, '(%d+):') do p.uncut[#p.uncut + 1] = '!' .. generation end
      p.drop[#p.drop + 1] = 'era'
      p.drop[#p.drop + 1] = 'cuts'
    end
    if #p.uncut > 0 then call('HDEL', RUNS, unpack(p.uncut)) end
    if n > 0 then
      local newest = p.push[#p.push]
      set.newest = newest and mark(newest) or prev
      if excess > 0 then set.oldest = mark(call('LINDEX', H, -1))
      elseif kept == 0 then set.oldest = mark(p.push[1])
      else set.oldest = not x.foreign and s.oldest or mark(call('LINDEX', H, -1)) end
    else
      p.drop[#p.drop + 1] = 'newest'
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
      if p.text[run.id] then field(run.id .. ':text', p.text[run.id]) end
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

  if ARGV[5] ~= '' then p.ops[#p.ops + 1] = { ARGV[5], ARGV[6], p.result or '', tonumber(ARGV[7]) } end
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
      if id ~= s.last and id ~= s.active then call('HDEL', RUNS, id, id .. ':input', id .. ':text', id .. ':template') end
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

-- What each answer begins with, read after the writes.
local function headOf(x)
  local s = x.s
  local head = { now = now, added = x.fresh and 1 or 0, updated = tonumber(s.updated or now), due = 0, expires = 0 }
  head.gen, head.base = tonumber(s.gen or x.gen), tonumber(s.base or x.base)
  if x.plan then head.indexed = x.plan.indexFailure end
  local due, first = dueOf(x)
  head.due = due
  if first then
    head.next = first
    local run = runOf(first)
    head.nextOwner = run and run.own or ''
    if not s.active then head.free = 1 end
  end
  -- also where the list alone expires, by foreign code: the record is to go with it
  if s.xat then head.expires = tonumber(s.xat) end
  return cjson.encode(head)
end

-- What the process that has the turn needs for it.
local function startedAnswer(x, state, turn)
  local memory, instructions, summary, low, input, rows = unpack(turn)
  return { 'STARTED', headOf(x), state, input, memory, instructions, summary, low, rows, x.s.owner }
end

-- The same for a run that this very attempt started before its reply was lost.
local function startedAgain(x, run, o)
  local memory = memoryOf(x, o.memory)
  local low = memoryFrom(x, run.up, memory, o.most, function(a, b) return rowsOf(x, a, b - 1) end)
  local turn = { memory, x.s.instructions or '', '', int(low), call('HGET', RUNS, run.id .. ':input'), rowsOf(x, low, run.up - 1) }
  return startedAnswer(x, cjson.encode(run), turn)
end
