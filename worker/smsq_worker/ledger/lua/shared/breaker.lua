-- What attempts say of their account and its gateway: refusals in a row, an outage, silence.
-- needs: pauses rate

local REFUSALS_IN_A_ROW = 20  -- a wrong secret costs as many messages, not the backlog

local SENDING = {'otp:sending', 'notice:sending', 'bulk:sending'}
local AT_ACCOUNT = {'sending'}
local stored_sending = {}

-- Return how many messages are being sent; of an account with a key, there.
local function sending_at(of)
  local key, fields = KEY_LIVE .. of, of == '' and SENDING or AT_ACCOUNT
  if not stored_sending[of] then
    local stored = 0
    for _, n in ipairs(redis.call('HMGET', key, unpack(fields))) do stored = stored + tonumber(n or 0) end
    stored_sending[of] = stored
  end
  local sending, sum = stored_sending[of], sums[key] or {}
  for _, field in ipairs(fields) do sending = sending + (sum[field] or 0) end
  return sending
end

-- Return how many attempts at an account began since its last answer and have no result.
local function unanswered(of)
  -- An attempt that a report has settled meanwhile leaves its count behind; so do those of a worker that
  -- died, where one of release 0.2.0 lets their leases run out: it counts elsewhere.
  local f = open(KEY_RATE .. of).f
  local counted = tonumber(f.unanswered or 0)
  if counted <= 0 or now > tonumber(f.newest or 0) / 1000 + LEASE then return 0 end
  local sending = sending_at(of)
  if ACCOUNTS and of == '' then
    for other in pairs(ACCOUNTS) do
      if other ~= '' then sending = sending - sending_at(other) end
    end
  end
  return math.min(sending, counted)
end

-- Count one that begins, or one whose result is none of the gateway's. Beside the rate, as whoever admits
-- reads and writes that anyway.
local function count_unanswered(of, by)
  local h = open(KEY_RATE .. of)
  set(h, 'unanswered', tonumber(h.f.unanswered or 0) + by)
end

local function answered(of, by_the_gateway)
  if by_the_gateway then
    drop_unread(KEY_RATE .. of, 'unanswered')
  elseif unanswered(of) > 0 then
    count_unanswered(of, -1)
  end
end

-- Return how many of the last attempts are noted, of which the first is one that failed: nothing is
-- written while none does.
local function recent_kept()
  return math.ceil(BREAKER[1] * 100 / BREAKER[2])
end

-- Note one that did not fail. Whether it began since the breaker was resumed is asked only where there
-- are any.
local has_recent = {}
local function note_good(of, begun)
  local key = KEY_RECENT_ATTEMPTS .. of
  if has_recent[of] == nil then has_recent[of] = redis.call('EXISTS', key) == 1 end
  if has_recent[of] and since_resumed('breaker' .. of, begun) then push(key, 0, recent_kept()) end
end

-- Note one that failed; return how many of the last failed in the breaker's time. Of the last, and not
-- of all in that time: an hour of good ones must not hide an outage for another half a minute.
local function failed_lately(of)
  local key, kept = KEY_RECENT_ATTEMPTS .. of, recent_kept()
  write_pushed(key)
  if redis.call('LPUSH', key, now) > kept then redis.call('LTRIM', key, 0, kept - 1) end
  has_recent[of] = true
  redis.call('PEXPIRE', key, math.ceil(BREAKER[3]))
  local failed = 0
  for _, at in ipairs(redis.call('LRANGE', key, 0, -1)) do
    if now < tonumber(at) + BREAKER[3] then failed = failed + 1 end
  end
  return failed
end

local function refused_in_a_row(of)
  local health = open(KEY_HEALTH .. of)
  set(health, 'refusals', tonumber(health.f.refusals or 0) + 1)
  return tonumber(health.f.refusals)
end

-- Refusals with such a cause say nothing of the account.
local OF_THE_MESSAGE = {recipient = 1, content = 1, frequency = 1}

-- Return whether a refusal is smsq's own: nothing was asked of the gateway.
local function is_local(detail)
  return detail:sub(1, 6) == 'local:'
end

-- Apply what a result says of its account and gateway; `counts`: whether a refusal may be the
-- account's fault. Returns true where the message is to wait for the account instead of failing.
local function heed_result(of, outcome, detail, begun, trouble, counts)
  local alive = outcome == 'accepted' or outcome == 'refused' and not is_local(detail)
  local account, breaker = 'account' .. of, 'breaker' .. of
  answered(of, alive)
  if alive then heal(breaker, 'outage', begun) end
  if BREAKER and trouble then
    if since_resumed(breaker, begun) and failed_lately(of) >= BREAKER[1] then
      -- It may have been too much for it. At the full rate it would go down again, and all that is
      -- under way then would be in doubt.
      if outcome == 'maybe_sent' and not paused(breaker) then slow_down(of, begun, detail) end
      pause(breaker, 'outage', detail)
    end
  elseif BREAKER and alive then
    note_good(of, begun)
  end
  if outcome == 'accepted' then
    drop_unread(KEY_HEALTH .. of, 'refusals')
    heal(account, 'refusals', begun)
  elseif outcome == 'refused' then
    if paused(account) then return true end
    if counts and since_resumed(account, begun) and refused_in_a_row(of) >= REFUSALS_IN_A_ROW then
      pause(account, 'refusals', REFUSALS_IN_A_ROW .. ' in a row, the last: ' .. detail)
    end
  end
  return false
end
