-- What a subject may still cost, over all gateways: in front of the scripts that let it call a model. Its keys lie in one
-- slot; on one server begin.lua takes them along, so that a turn and what it counts for are one write.
-- KEYS: of the caller. sends (zset: id -> when), going (zset: id -> until when it counts), tokens (hash: day -> sum)
-- ARGV: of the caller. limits: "sends a minute:at a time:tokens a day", each a number, or "" for none
local quota = {}
local MINUTE_MS, DAY_MS = 60000, 86400000
-- When a place among those that are going comes free, nobody knows.
local GOING_RETRY = 5

local function limitsOf(limits)
  local sends, going, tokens = string.match(limits, '^(%d*):(%d*):(%d*)$')
  return tonumber(sends), tonumber(going), tonumber(tokens)
end

-- Which limit leaves no room for one more, and for how many seconds; nil where there is room. Writes nothing.
-- What was counted under the same id is let through: a script is sent again where its reply was lost. `leaving`: what
-- ends as this one begins, or nil. GOING comes last: where it is that, there is room but for a place.
function quota.refusal(sends, going, tokens, id, limits, now, leaving)
  local perMinute, most, perDay = limitsOf(limits)
  if perMinute and redis.call('ZSCORE', sends, id) or most and redis.call('ZSCORE', going, id) then return nil end
  if perMinute then
    local since = string.format('(%.0f', now - MINUTE_MS)
    local excess = redis.call('ZCOUNT', sends, since, '+inf') - perMinute
    if excess >= 0 then
      -- there is room when so many of them are a minute old
      local last = redis.call('ZRANGEBYSCORE', sends, since, '+inf', 'WITHSCORES', 'LIMIT', excess, 1)
      return 'SENDS', math.max(1, math.ceil((tonumber(last[2]) + MINUTE_MS - now) / 1000))
    end
  end
  if perDay then
    local day = math.floor(now / DAY_MS)
    if tonumber(redis.call('HGET', tokens, day) or 0) >= perDay then
      return 'TOKENS', math.ceil(((day + 1) * DAY_MS - now) / 1000)
    end
  end
  if most then
    local places = redis.call('ZCOUNT', going, string.format('(%.0f', now), '+inf')
    if leaving and tonumber(redis.call('ZSCORE', going, leaving) or 0) > now then places = places - 1 end
    if places >= most then return 'GOING', GOING_RETRY end
  end
  return nil
end

-- Something counts as going for so long, unless it is held again.
function quota.hold(going, id, now, holdMs)
  redis.call('ZREMRANGEBYSCORE', going, '-inf', string.format('%.0f', now))
  redis.call('ZADD', going, 'GT', string.format('%.0f', now + holdMs), id)
  if redis.call('PEXPIRETIME', going) < now + holdMs then redis.call('PEXPIRE', going, holdMs) end
end

-- Counts one more under the id.
function quota.take(sends, going, id, limits, now, holdMs)
  local perMinute, most = limitsOf(limits)
  if perMinute then
    redis.call('ZREMRANGEBYSCORE', sends, '-inf', string.format('%.0f', now - MINUTE_MS))
    redis.call('ZADD', sends, string.format('%.0f', now), id)
    redis.call('PEXPIRE', sends, MINUTE_MS)
  end
  if most then quota.hold(going, id, now, holdMs) end
end

function quota.now()
  local clock = redis.call('TIME')
  return clock[1] * 1000 + math.floor(clock[2] / 1000)
end
