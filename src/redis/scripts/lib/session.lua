-- The session held against its list, the places of rows and cursors, and the plan of what is to be written.

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
    if owner ~= '*' and s.owner ~= owner then return nil, 'NOT_FOUND' end
    local len = tonumber(s.len)
    if len > 0 and x.n == 0 and s.xat and tonumber(s.xat) <= now then
      -- the list expired and the record has outlived it: the session is gone, what comes now is a new one
      if adopts == '2' then return nil, 'NOT_FOUND' end
      there[QUEUE] = false -- its runs wait for nothing any more
      return { s = {}, n = 0, seq = tonumber(s.seq), token = tonumber(s.token), fresh = true, none = true, purge = true, gen = now, base = 0, len = 0 }
    end
    x.seq, x.token = tonumber(s.seq), tonumber(s.token)
    x.gen, x.base, x.len = tonumber(s.gen), tonumber(s.base), len
    if len > 0 and (x.n < len or not isMarkOf(s.newest, call('LINDEX', H, -len)) or not isMarkOf(s.oldest, call('LINDEX', H, -1))) then
      x.lost = true -- Redis or foreign code took rows that were recorded (P4)
      x.oldGen, x.gen, x.base = x.gen, newGeneration(x), 0
    end
    x.foreign = x.lost or x.n > len
  elseif x.n > 0 then
    -- a list without a record counts as a history only where its ends are messages; a job queue is a list too (P11)
    local history = isMessage(call('LINDEX', H, 0)) and isMessage(call('LINDEX', H, -1))
    if adopts ~= '1' or owner == '*' or not history then return nil, 'NOT_FOUND', not history end
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

-- A reply that calls tools and the answers to it are one step, which is never divided: providers refuse an answer without
-- its call. By their types, as LangChain JS and Python write them; what is escaped in a row does not matter here.
local answerTypes, replyTypes = { tool = true, ToolMessageChunk = true }, { ai = true, AIMessageChunk = true }
local function typeOf(raw)
  local name = string.match(raw, '^%s*{%s*"type"%s*:%s*"(%a+)"')
  if name then return name end
  local ok, row = pcall(cjson.decode, (string.gsub(raw, '\\.', '?')))
  return ok and type(row) == 'table' and type(row.type) == 'string' and row.type or ''
end
local function isAnswer(raw) return answerTypes[typeOf(raw)] or false end

-- Where the step begins that a row is in, and the mark of its reply; the row's own place where it is in none.
local STEP_ROWS = 400
local function stepAt(x, position, m)
  local raw = position and rowAt(x, position)
  if not raw or not isAnswer(raw) then return position, m end
  for i, before in ipairs(rowsOf(x, position - STEP_ROWS, position - 1)) do
    local kind = typeOf(before)
    if replyTypes[kind] then return position - i, mark(before) end
    if not answerTypes[kind] then break end
  end
  return position, m
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
  return { x = x, push = {}, runs = {}, text = {}, log = {}, input = {}, template = {}, tools = {}, set = {}, drop = {}, ops = {}, cut = {}, uncut = {}, ends = {} }
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
