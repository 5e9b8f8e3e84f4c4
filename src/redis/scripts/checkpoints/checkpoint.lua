-- Stores a checkpoint of a LangGraph thread, and appends the messages that are finished with it, in one write. A channel's
-- value is stored once, with the checkpoint that changed it; later ones refer to it.
-- KEYS: the eight of base.lua, 9 checkpoints (hash), 10 their order (zset)
-- ARGV: name (namespace and id of the checkpoint), keep (how many of a namespace stay, or ""), lives (for how many milliseconds,
--       or ""), parent (the name of the checkpoint that has the channels that did not change, or ""), unchanged (names of
--       these, a line each), fields (how many values), values... (for each value: field, value; then for each message: id,
--       row head, row tail)
-- Returns OK head ("" where there are no messages) | PARENT (it is not there: the values of all channels are needed) |
--         NOT_FOUND | CORRUPT
local name, keep, lives, parent, unchanged, fields = unpack(ARGV, 8, 13)
local values = 14
local DATA, ORDER = KEYS[9], KEYS[10]
if not (expectType(DATA, 'hash') and expectType(ORDER, 'zset')) then return { 'CORRUPT' } end

local references = {}
for i = 1, tonumber(fields) do
  local field = ARGV[values + 2 * i - 2]
  if string.sub(field, 1, 2) == 'b/' then references[#references + 1] = field end
end
-- Where this very attempt stored it before its reply was lost, the parent may be gone by it.
local inherited = parent ~= '' and (call('HGET', DATA, 'r/' .. name) or call('HGET', DATA, 'r/' .. parent))
if parent ~= '' and not inherited then return { 'PARENT' } end
local wanted = {}
for channel in string.gmatch(unchanged, '[^\n]+') do wanted[channel] = true end
for field in string.gmatch(inherited or '', '[^\n]+') do
  if wanted[string.match(field, '[^/]*$')] then references[#references + 1] = field end
end

local messages = values + 2 * tonumber(fields)
local head, p = '', nil
if #ARGV >= messages then
  local x, code = load()
  if not x then return { code } end
  p = plan(x)
  settleLoss(p)
  local newest = call('LRANGE', H, 0, 63)
  for i = messages, #ARGV, 3 do
    local known = call('HGET', DATA, 'm/' .. ARGV[i]) ~= false
    -- What the program took from the history to begin with lies there already.
    for _, raw in ipairs(newest) do known = known or string.find(raw, '"id":"' .. ARGV[i] .. '"', 1, true) ~= nil end
    if not known then p.push[#p.push + 1] = fill(ARGV[i + 1], x.base + x.n + #p.push, ARGV[i + 2]) end
  end
end

if p and #p.push > 0 then commit(p) end
for i = values, messages - 1, 2 do call('HSET', DATA, ARGV[i], ARGV[i + 1]) end
for i = messages, #ARGV, 3 do call('HSET', DATA, 'm/' .. ARGV[i], '') end
call('HSET', DATA, 'r/' .. name, table.concat(references, '\n'), 't', H)
call('ZADD', ORDER, 0, 'c/' .. name)

-- Those beyond the newest of their namespace go, and with them what a subgraph stored for one task (its namespace names the
-- task) before the oldest of the graph itself that stays. A value goes with the last checkpoint that refers to it.
if keep ~= '' then
  local all, counts, oldest = call('ZRANGE', ORDER, '(c0', '[c/', 'BYLEX', 'REV'), {}, ''
  local stays, goes = {}, {}
  for _, one in ipairs(all) do
    local namespace, id = string.match(one, '^c/([^/]*)/(.*)$')
    counts[namespace] = (counts[namespace] or 0) + 1
    if namespace == '' and counts[namespace] <= tonumber(keep) then oldest = id end
  end
  counts = {}
  for _, one in ipairs(all) do
    local namespace, id = string.match(one, '^c/([^/]*)/(.*)$')
    counts[namespace] = (counts[namespace] or 0) + 1
    local old = string.find(namespace, '%3A', 1, true) and id < oldest
    local list = (old or counts[namespace] > tonumber(keep)) and goes or stays
    list[#list + 1] = string.sub(one, 3)
  end
  local referred = {}
  for _, one in ipairs(#goes > 0 and stays or {}) do
    for field in string.gmatch(call('HGET', DATA, 'r/' .. one) or '', '[^\n]+') do referred[field] = true end
  end
  for _, one in ipairs(goes) do
    for field in string.gmatch(call('HGET', DATA, 'r/' .. one) or '', '[^\n]+') do
      if not referred[field] then call('HDEL', DATA, field) end
    end
    for _, write in ipairs(call('ZRANGE', ORDER, '[w/' .. one .. '/', '(w/' .. one .. '0', 'BYLEX')) do
      call('HDEL', DATA, write)
      call('ZREM', ORDER, write)
    end
    call('HDEL', DATA, 'c/' .. one, 'r/' .. one)
    call('ZREM', ORDER, 'c/' .. one)
  end
end
for _, key in ipairs({ DATA, ORDER }) do
  if lives == '' then call('PERSIST', key) else call('PEXPIRE', key, lives) end
end
if p then head = headOf(p.x) end
return { 'OK', head }
