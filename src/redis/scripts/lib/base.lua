-- What all session scripts share. A script reads and checks first, notes what it wants in a plan, and writes in
-- commit() alone: an error midway keeps what was written, so nothing may fail behind the first write (P2).
--
-- KEYS: 1 history (list), 2 session (hash), 3 runs (hash), 4 partial (string), 5 queue (list), 6 ops (hash),
--       7 ops-due (zset), 8 events (channel). All in one slot. On a single server a turn's scripts have three more behind
--       their own: the owner's sessions (zset), the deadlines (zset) and the owner's sidebar (channel).
-- ARGV: publisher (PUBLISH or SPUBLISH, or "PUBLISH+" where there are these three), owner ("*": the gateway itself),
--       mode ("1" where a touch adopts foreign histories, "0" where a list without a record is nobody's, "2" where nothing
--       without a record is there at all and none is started; then "t" where sessions that are started without a title get
--       one by themselves, and behind a colon the most rows that a history keeps, where there is such a limit),
--       defaultTtl (in seconds, or ""), opId (or ""), fingerprint (of what the op does), keptMs (how long the op is kept)
--       A script's own arguments start at 8. contracts.ts has the names and the order of all.
local publisher, owner, mode, defaultTtl, opId, fingerprint, keptMs = unpack(ARGV, 1, 7)
local H, S, RUNS, PART, QUEUE, OPS, DUE, CH = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7], KEYS[8]
local call = redis.call
local clock = call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local OPS_MS = 90000000 -- 25 hours (P8)
local adopts, titles, most = string.match(mode, '^(%d)(t?):?(%d*)$')
local MOST = tonumber(most) or math.huge
local publish, indexed = string.match(publisher, '^(%u+)(%+?)$')

local NO_MARK = '0000000000000000'

local function int(n) return string.format('%.0f', n) end

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
