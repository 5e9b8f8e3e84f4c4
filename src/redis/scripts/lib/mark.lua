-- What a row is known by.

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

-- Whether it is the mark of the row. Of what is UTF-8, as nearly all is, the bytes tell.
local function isMarkOf(m, raw)
  return string.sub(redis.sha1hex(raw), 1, 16) == m or mark(raw) == m
end
