-- Which of many followed sessions are no longer as their followers know them. Writes nothing. A state is the newest write
-- ("stamp sequence", "-" where there is no record), how much text and log the active run has, and behind "!" what of the
-- list is not as the record says: its length, its ends, its life. "": it is not known, and whoever reads finds out.
-- KEYS: history (list) and session (hash) of each, all in one slot
-- ARGV: known... (the state of each that its follower knows)
-- Returns OK changed... (which it is, counted from 1, and its state, in turn)
local known = 1
local call, pcall = redis.call, redis.pcall
local fields = { 'stamp', 'seq', 'len', 'newest', 'oldest', 'xat', 'active', 'plen', 'llen' }

local function stateOf(H, S)
  local record, n = pcall('HMGET', S, unpack(fields)), pcall('LLEN', H)
  -- Of a foreign type.
  if record.err then return '' end
  local stamp, sequence, length, newest, oldest, expires, active, text, log = unpack(record)
  if sequence and not stamp then return '' end
  local state = stamp and stamp .. ' ' .. sequence or '-'
  -- A gateway that knows no log may have started the run.
  if active then state = state .. ' ' .. text .. ' ' .. (log or '0') end
  if type(n) ~= 'number' then return state .. ' !' end
  if n == tonumber(length or 0) and (n == 0
      or isMarkOf(newest, call('LINDEX', H, 0)) and isMarkOf(oldest, call('LINDEX', H, -1))
      and call('PEXPIRETIME', H) == tonumber(expires or -1)) then
    return state
  end
  return state .. ' ! ' .. n .. ' ' .. (n > 0 and redis.sha1hex(call('LINDEX', H, 0)) or '')
end

local answer = { 'OK' }
for i = known, #ARGV do
  local state = stateOf(KEYS[2 * i - 1], KEYS[2 * i])
  if state == '' or state ~= ARGV[i] then
    answer[#answer + 1] = i
    answer[#answer + 1] = state
  end
end
return answer
