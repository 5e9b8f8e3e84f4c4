-- Meets a session whose list is not as recorded: adopts a foreign history, records what foreign code appended, or notes a
-- loss (P4, P5). A reader that holds a place hands it in as a witness: where it must hold by the rule for cursors and does
-- not, that is a loss too, which Redis itself cannot see after a failover. Writes nothing where all is as recorded; needs no op.
-- KEYS: the eight of base.lua
-- ARGV: 8 witness' generation or "", 9 position, 10 mark
-- Returns OK head | NOT_FOUND | CORRUPT
local x, code = load()
if not x then return { code } end
if x.none then
  if x.purge then call('DEL', S, RUNS, PART, QUEUE) end
  return { 'NOT_FOUND' }
end
if not x.fresh and ARGV[8] ~= '' and isLost(x, tonumber(ARGV[8]), tonumber(ARGV[9])) and not holds(x, ARGV[8], ARGV[9], ARGV[10]) then
  x.lost, x.foreign = true, true
  x.oldGen, x.gen, x.base = x.gen, newGeneration(x), 0
end
if x.fresh or x.foreign then
  local p = plan(x)
  settleLoss(p)
  commit(p)
elseif x.n > 0 then
  -- the record lives at least as long as its list, whatever TTL foreign code gives it, and knows when the list goes
  local expires, mine = call('PEXPIRETIME', H), call('PEXPIRETIME', S)
  if mine > 0 and (expires < 0 or expires > mine) then
    for _, key in ipairs({ S, RUNS, PART, QUEUE }) do
      if expires < 0 then call('PERSIST', key) else call('PEXPIREAT', key, expires) end
    end
  end
  if expires > 0 then call('HSET', S, 'xat', int(expires)) elseif x.s.xat then call('HDEL', S, 'xat') end
  x.s.xat = expires > 0 and int(expires) or nil
end
return { 'OK', headOf(x) }
