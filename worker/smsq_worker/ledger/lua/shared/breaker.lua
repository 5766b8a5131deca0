-- What attempts say of the account and the gateway: refusals in a row, an outage, silence.
-- needs: pauses

local REFUSALS_IN_A_ROW = 20  -- a wrong secret costs as many messages, not the backlog

-- Return how many attempts began since the last answer and have no result.
local function unanswered()
  local sending = 0
  for _, n in ipairs(redis.call('HMGET', KEY_LIVE, 'otp:sending', 'notice:sending',
      'bulk:sending')) do
    sending = sending + tonumber(n or 0)
  end
  -- An attempt that a report has settled meanwhile leaves its count behind.
  return math.min(sending, tonumber(redis.call('HGET', KEY_HEALTH, 'unanswered') or 0))
end

local function answered(by_the_gateway)
  if by_the_gateway then
    redis.call('HDEL', KEY_HEALTH, 'unanswered')
  elseif unanswered() > 0 then
    redis.call('HINCRBY', KEY_HEALTH, 'unanswered', -1)
  end
end

-- Note an attempt; return how many of the last failed in the breaker's time. Of the last, and not
-- of all in that time: an hour of good ones must not hide an outage for another half a minute.
local function failed_lately(trouble)
  redis.call('LPUSH', KEY_RECENT_ATTEMPTS, trouble and now or 0)
  redis.call('LTRIM', KEY_RECENT_ATTEMPTS, 0, math.ceil(BREAKER[1] * 100 / BREAKER[2]) - 1)
  if not trouble then return 0 end
  local failed = 0
  for _, at in ipairs(redis.call('LRANGE', KEY_RECENT_ATTEMPTS, 0, -1)) do
    if now < tonumber(at) + BREAKER[3] then failed = failed + 1 end
  end
  return failed
end

-- Apply what a result says of the account and the gateway. Returns true where the message is to
-- wait for the account instead of failing.
local function heed_result(outcome, detail, begun, trouble)
  local alive = outcome == 'accepted' or outcome == 'refused'
  answered(alive)
  if alive then heal('breaker', 'outage', begun) end
  if BREAKER and (alive or trouble) and since_resumed('breaker', begun)
      and failed_lately(trouble) >= BREAKER[1] then
    pause('breaker', 'outage', detail)
  end
  if outcome == 'accepted' then
    redis.call('HDEL', KEY_HEALTH, 'refusals')
    heal('account', 'refusals', begun)
  elseif outcome == 'refused' then
    if paused('account') then return true end
    if since_resumed('account', begun)
        and redis.call('HINCRBY', KEY_HEALTH, 'refusals', 1) >= REFUSALS_IN_A_ROW then
      pause('account', 'refusals', REFUSALS_IN_A_ROW .. ' in a row, the last: ' .. detail)
    end
  end
  return false
end
