-- Meets a session whose list is not as recorded: adopts a foreign history, records what foreign code appended, or notes a
-- loss (P4, P5). A reader that holds a place hands it in as a witness: where it must hold by the rule for cursors and does
-- not, that is a loss too, which Redis itself cannot see after a failover. Writes nothing where all is as recorded; needs no op.
-- KEYS: the eight of base.lua
-- ARGV: generation, position, rowMark (of the witness; "": none)
-- Returns OK head | NOT_FOUND | CORRUPT
local generation, position, rowMark = unpack(ARGV, 8)
local x, code = load()
if not x then return { code } end
if x.none then
  if x.purge then call('DEL', S, RUNS, PART, QUEUE) end
  return { 'NOT_FOUND' }
end
if not x.fresh and generation ~= '' and isLost(x, tonumber(generation), tonumber(position)) and not holds(x, generation, position, rowMark) then
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
