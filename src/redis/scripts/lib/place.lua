-- Places as callers name them, behind the other libraries, in front of the scripts that take them. A place is three arguments:
--   generation, position, mark    a cursor
--   "mark", position, mark        the id of a row whose place and mark are its id
--   "named", hint, messageId      an id that the gateway made: the message lies at the hint or near it, else it is looked
--                                 for among the newest rows
--   "chosen", op id, messageId    an id that the caller chose: its op knows where the message lies; where the op is
--                                 forgotten, it is looked for among the newest rows
local AROUND, NEWEST, NEWEST_BYTES = 100, 2000, 4000000
local TAG = string.sub(redis.sha1hex(H), 1, 8)

-- Of a stored message its id and what the gateway noted in it; false for any other row. Decoded once, however many ids are
-- looked for: whoever writes the rows decides which ids their texts hold.
local decoded = {}
local function nameOf(raw)
  local name = decoded[raw]
  if name ~= nil then return name end
  -- What is escaped in its texts does not matter here, and cjson refuses some of it.
  local ok, row = pcall(cjson.decode, (string.gsub(raw, '\\.', '?')))
  local data = ok and type(row) == 'table' and row.data
  name = false
  if type(data) == 'table' then
    name = { id = data.id, note = type(data.response_metadata) == 'table' and data.response_metadata.parley }
  end
  decoded[raw] = name
  return name
end

-- The same of a stored message whose data.id this is; else nil.
local function nameWithId(raw, id)
  if not raw or not string.find(raw, '"' .. id .. '"', 1, true) then return nil end
  local name = nameOf(raw)
  return name and name.id == id and name or nil
end

-- Whether a row has the id that such a place names. The note that the gateway wrote into it counts only where it was
-- written. `hint` nil: the caller chose the id.
local function hasId(raw, position, id, hint)
  local name = nameWithId(raw, id)
  local note = name and name.note
  if type(note) ~= 'table' or note.session ~= TAG or note.position ~= position then return false end
  return note.hint == (hint or cjson.null) and note.run ~= nil
end

-- As many of the newest rows as are looked through, newest first; read once, however many ids are looked for.
local newest
local function newestRows(x)
  if newest then return newest end
  local most, bytes = math.min(NEWEST, x.n), 0
  newest = {}
  while #newest < most and bytes < NEWEST_BYTES do
    for _, raw in ipairs(call('LRANGE', H, #newest, math.min(#newest + 50, most) - 1)) do
      newest[#newest + 1] = raw
      bytes = bytes + #raw
    end
  end
  return newest
end

-- Where the message of the id lies among the newest rows, and its mark.
local function among(x, id, hint)
  for i, raw in ipairs(newestRows(x)) do
    local position = x.base + x.n - i
    if hasId(raw, position, id, hint) then return position, mark(raw) end
  end
  return nil
end

-- Where the message of a chosen id lies, as far as its op knows; nil and true where that is forgotten.
local function toldBy(op)
  if not op then return nil, true end
  local id = string.match(op.result, '^run:(.*)$')
  local run = id and runOf(id)
  if id then return run and run.up, not run end
  return tonumber(string.match(op.result, '^%d+'))
end

-- The position that a place names, and the mark of the row there; nil where it does not hold, or nothing of the id is found.
local function placeOf(x, kind, where, what)
  if x.lost then return nil end
  local at = tonumber(where)
  if kind == 'mark' then
    local raw = rowAt(x, at)
    if raw and mark(raw) == what then return at, what end
  elseif kind == 'named' then
    local raw = rowAt(x, at)
    if hasId(raw, at, what, at) then return at, mark(raw) end
    local high = math.min(at + AROUND, x.base + x.n - 1)
    for i, other in ipairs(rowsOf(x, at - AROUND, high)) do
      if hasId(other, high - i + 1, what, at) then return high - i + 1, mark(other) end
    end
    -- A reply that was made anew in the middle moves what was added meanwhile.
    return among(x, what, at)
  elseif kind == 'chosen' then
    local told, forgotten = toldBy(knownOp(where))
    local raw = told and rowAt(x, told)
    if hasId(raw, told, what) then return told, mark(raw) end
    if forgotten then return among(x, what) end
  elseif holds(x, kind, where, what) then
    return at, what
  end
  return nil
end
