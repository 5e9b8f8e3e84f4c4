-- One reading of a session: record, tip, runs and pages agree with each other. Writes nothing; where the list or its
-- expiry is not as recorded the answer is TOUCH, and the caller touches and reads again.
-- In its answer the record is a flat list, packed. A run is { state, input, text, user-row, reply-row, log }, empty where
-- there is none. A page is { "OK", low, has-previous, has-next, rows newest first, packed, mark of the row that an id names };
-- { "LOST" } where its cursor must hold and does not (see touch.lua); { "EXPIRED" } where it need not, and where its row
-- was cut for sure, with the position that its holder goes on from and the mark of the row before that; { "UNKNOWN" } where
-- nothing of an id is found; { "LARGE", bytes of its rows } where these are too many beside those of the pages before.
-- Packed is one text, the items apart by NUL; the list as it is where an item holds NUL, or there is none.
-- State is the same only where the whole answer would be; "" where that is not known.
-- KEYS: the eight of base.lua
-- ARGV: runId (to read beside, or ""), mostBytes (that the rows of the pages first and last may hold together, or ""),
--       known (the state of an earlier answer to the same, or ""),
--       pages... (for each: kind: first, last, next, range or at; next: first, whatever its rows hold, count,
--       place to begin after, see place.lua; "": none, place to end before; range: "", from, "", "", to, "";
--       at: the place of the one row, "", "", "")
-- Returns OK record count tipMark expires now run active last queue pages state | SAME | TOUCH
--         | NOT_FOUND other (1 where the key holds what is no history) | CORRUPT
local runId, mostBytes, known = unpack(ARGV, 8, 10)
local pages = 11
local x, code, other = load()
if not x then return { code, other and 1 or nil } end
if x.none and not x.purge then return { 'NOT_FOUND' } end
if x.fresh or x.foreign then return { 'TOUCH' } end
local s = x.s
local expires = call('PEXPIRETIME', x.n > 0 and H or S)
if x.n > 0 and (s.xat or '') ~= (expires > 0 and int(expires) or '') then return { 'TOUCH' } end

-- The stamp is of the newest write. Without one may change: the list's life, what the active run has made, the summary.
local state = ''
if s.stamp then
  local made = { s.active or '', s.plen or '', s.llen or '', s.sumPos or '', s.sumText and mark(s.sumText) or '' }
  state = table.concat({ s.stamp, s.seq, s.gen, x.n, s.newest or '', int(expires), unpack(made) }, ' ')
  if known == state then return { 'SAME' } end
end

local function runView(id)
  local state = id and id ~= '' and call('HGET', RUNS, id)
  if not state then return {} end
  local run = cjson.decode(state)
  local function placed(position, m)
    local raw = position and rowAt(x, position)
    if raw and mark(raw) == m then return raw end
    return ''
  end
  local input, text, log = unpack(call('HMGET', RUNS, id .. ':input', id .. ':text', id .. ':log'))
  if id == s.active then text = call('GET', PART) end
  return { state, input or '', text or '', placed(run.up, run.um), placed(run.rp, run.rm), log or '' }
end

-- A client decodes one text in a fraction of the time that it takes for the items.
local function packed(items)
  local text, from = table.concat(items, '\0'), 1
  for _ = 2, #items do from = string.find(text, '\0', from, true) + 1 end
  if #items == 0 or string.find(text, '\0', from, true) then return items end
  return text
end

-- A summary of what was cut is none. What a cursor's life is judged by is of no use outside.
local summed = s.sumText and (limitOf(x, tonumber(s.sumGen)) or 0) > tonumber(s.sumPos)
local inside = { stamp = true, era = true, cuts = true, trimmed = true, sumText = not summed }
local record = {}
for field, value in pairs(s) do
  if not inside[field] then
    record[#record + 1] = field
    record[#record + 1] = value
  end
end
local queue = {}
for _, id in ipairs(there[QUEUE] and call('LRANGE', QUEUE, 0, -1) or {}) do queue[#queue + 1] = runView(id) end

-- What a page is instead where a place of it does not hold.
local function gone(kind, position, m)
  local generation = tonumber(kind)
  if not generation then return { 'UNKNOWN' } end
  position = tonumber(position)
  if isLost(x, generation, position) then return { 'LOST' } end
  local kept, tip = keptOf(x, generation, position, m)
  return kept and { 'EXPIRED', kept, tip } or { 'EXPIRED' }
end

local most, taken = tonumber(mostBytes), 0
local viewed = {}
local finish = x.base + x.n
for i = pages, #ARGV, 8 do
  local kind, count = ARGV[i], tonumber(ARGV[i + 1])
  local low, high, expired, tip = x.base, finish - 1, nil, nil
  local function place(at)
    local position, m = placeOf(x, ARGV[at], ARGV[at + 1], ARGV[at + 2])
    expired = expired or not position and gone(ARGV[at], ARGV[at + 1], ARGV[at + 2])
    return position, m
  end
  if kind == 'range' then
    low, high = math.max(low, tonumber(ARGV[i + 3])), math.min(high, tonumber(ARGV[i + 6]))
  elseif kind == 'at' then
    low, tip = place(i + 2)
    high = low
  else
    if ARGV[i + 2] ~= '' then
      local after, m = place(i + 2)
      low, tip = math.max(low, (after or 0) + 1), not tonumber(ARGV[i + 2]) and m or nil
    end
    if ARGV[i + 5] ~= '' then high = math.min(high, math.max(x.base, place(i + 5) or 0) - 1) end
    if kind ~= 'last' then high = math.min(high, low + count - 1) else low = math.max(low, high - count + 1) end
  end
  if expired then
    viewed[#viewed + 1] = expired
  else
    if high < low then if kind == 'last' then low = high + 1 else high = low - 1 end end
    local rows, bytes = rowsOf(x, low, high), 0
    if most and (kind == 'first' or kind == 'last') then
      for j = 1, #rows do bytes = bytes + #rows[j] end
    end
    if most and taken + bytes > most then
      viewed[#viewed + 1] = { 'LARGE', bytes }
    else
      taken = taken + bytes
      viewed[#viewed + 1] = { 'OK', int(low), low > x.base and 1 or 0, high < finish - 1 and 1 or 0, packed(rows), tip }
    end
  end
end

return { 'OK', packed(record), x.n, s.newest or '', expires, now, runView(runId), runView(s.active), runView(s.last), queue, viewed, state }
