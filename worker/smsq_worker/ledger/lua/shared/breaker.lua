-- What attempts say of the account and the gateway: refusals in a row, an outage, silence.
-- needs: pauses

local REFUSALS_IN_A_ROW = 20  -- a wrong secret costs as many messages, not the backlog

local SENDING = {'otp:sending', 'notice:sending', 'bulk:sending'}
local stored_sending

-- Return how many attempts began since the last answer and have no result.
local function unanswered()
  -- An attempt that a report has settled meanwhile leaves its count behind.
  local counted = tonumber(open(KEY_HEALTH).f.unanswered or 0)
  if counted <= 0 then return 0 end
  if not stored_sending then
    stored_sending = 0
    for _, n in ipairs(redis.call('HMGET', KEY_LIVE, unpack(SENDING))) do
      stored_sending = stored_sending + tonumber(n or 0)
    end
  end
  local sending, sum = stored_sending, sums[KEY_LIVE] or {}
  for _, field in ipairs(SENDING) do sending = sending + (sum[field] or 0) end
  return math.min(sending, counted)
end

-- Count one that begins, or one whose result is none of the gateway's.
local function count_unanswered(by)
  local health = open(KEY_HEALTH)
  set(health, 'unanswered', tonumber(health.f.unanswered or 0) + by)
end

local function answered(by_the_gateway)
  if by_the_gateway then
    drop(open(KEY_HEALTH), 'unanswered')
  elseif unanswered() > 0 then
    count_unanswered(-1)
  end
end

-- Note an attempt; return how many of the last failed in the breaker's time. Of the last, and not
-- of all in that time: an hour of good ones must not hide an outage for another half a minute.
local function failed_lately(trouble)
  push(KEY_RECENT_ATTEMPTS, trouble and now or 0, math.ceil(BREAKER[1] * 100 / BREAKER[2]))
  if not trouble then return 0 end
  write_pushed(KEY_RECENT_ATTEMPTS)
  local failed = 0
  for _, at in ipairs(redis.call('LRANGE', KEY_RECENT_ATTEMPTS, 0, -1)) do
    if now < tonumber(at) + BREAKER[3] then failed = failed + 1 end
  end
  return failed
end

-- Count a refusal; return how many there are in a row.
local function refused_in_a_row()
  local health = open(KEY_HEALTH)
  set(health, 'refusals', tonumber(health.f.refusals or 0) + 1)
  return tonumber(health.f.refusals)
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
    drop(open(KEY_HEALTH), 'refusals')
    heal('account', 'refusals', begun)
  elseif outcome == 'refused' then
    if paused('account') then return true end
    if since_resumed('account', begun) and refused_in_a_row() >= REFUSALS_IN_A_ROW then
      pause('account', 'refusals', REFUSALS_IN_A_ROW .. ' in a row, the last: ' .. detail)
    end
  end
  return false
end
