-- Reads checkpoints of a LangGraph thread with the values of their channels and the writes that belong to them, the newest
-- of each namespace first.
-- KEYS: 1 checkpoints (hash), 2 their order (zset)
-- ARGV: from, to (names as ZRANGE takes them by REV), most (how many)
-- Returns OK found... (name, checkpoint, fields and values of channels, names and values of writes)
local from, to, most = unpack(ARGV)
local found = { 'OK' }
for _, member in ipairs(redis.call('ZRANGE', KEYS[2], from, to, 'BYLEX', 'REV', 'LIMIT', 0, most)) do
  local name, channels, writes = string.sub(member, 3), {}, {}
  for field in string.gmatch(redis.call('HGET', KEYS[1], 'r/' .. name) or '', '[^\n]+') do
    channels[#channels + 1] = field
    channels[#channels + 1] = redis.call('HGET', KEYS[1], field) or ''
  end
  for _, write in ipairs(redis.call('ZRANGE', KEYS[2], '[w/' .. name .. '/', '(w/' .. name .. '0', 'BYLEX')) do
    writes[#writes + 1] = write
    writes[#writes + 1] = redis.call('HGET', KEYS[1], write) or ''
  end
  found[#found + 1] = { name, redis.call('HGET', KEYS[1], 'c/' .. name) or '', channels, writes }
end
return found
