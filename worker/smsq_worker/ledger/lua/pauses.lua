-- What stops or slows sending for all workers; prepended after common.lua, with the constants
--   local PROBE            ms between two probes of the account or after an outage
--   local BREAKER          {calls, percent, ms}, or nil where it is off
--   local RATE, BURST      the limit where no operator has set another
--
-- Scopes of a pause are 'account', 'breaker' and 'template:<name>'. A pause holds
--   cause: operator, report, refusals or outage; detail, since, probe_at, and
--   permit: since when one message may go as a probe, absent where none may.
--
-- What is known of calls begun before the last resumption says nothing of how it is now.

local PAUSES, RESUMED, RELEASED = 'smsq:pauses', 'smsq:resumed', 'smsq:released'
local HEALTH, OUTCOMES, RATE_KEY = 'smsq:health', 'smsq:outcomes', 'smsq:rate'

local REFUSALS_IN_A_ROW = 20    -- a wrong secret burns so many messages, not the backlog
local TEMPLATE_PROBE = 20       -- times PROBE: the vendor approves templates by hand
local TEMPLATE_REPORTS, TEMPLATE_PERCENT, TEMPLATE_WINDOW = 5, 20, 900000
local SLOWEST = 1 / 16          -- of the limit
local RECOVERY, RECOVERY_MS = 1 / 10, 10000  -- of the limit, each so many ms
local REPEATED = 86400000       -- ms in which a delivered report may be repeated

-- Read a pause. One that is unreadable is as an operator's: nothing goes until it is known.
local function pause_of(text)
  local ok, p = pcall(cjson.decode, text)
  if ok and type(p) == 'table' and type(p.cause) == 'string' and type(p.detail) == 'string'
      and type(p.since) == 'number' and type(p.probe_at) == 'number' then return p end
  return {cause = 'operator', detail = 'its entry was none', since = now, probe_at = now,
    unreadable = true}
end

local function paused(scope)
  local text = redis.call('HGET', PAUSES, scope)
  return text and pause_of(text)
end

local function keep(scope, pause)
  redis.call('HSET', PAUSES, scope, cjson.encode(pause))
end

local function probe_wait(scope)
  return scope:sub(1, 9) == 'template:' and TEMPLATE_PROBE * PROBE or PROBE
end

local function since_resumed(scope, begun)
  return tonumber(begun) >= tonumber(redis.call('HGET', RESUMED, scope) or 0)
end

-- An operator's pause replaces any other, and no other replaces it.
local function pause(scope, cause, detail)
  local before = paused(scope)
  if before and (before.cause == 'operator' or cause ~= 'operator') then return false end
  keep(scope, {cause = cause, detail = detail, since = now, probe_at = now + probe_wait(scope)})
  if scope:sub(1, 9) == 'template:' then redis.call('SREM', RELEASED, scope:sub(10)) end
  tell('paused ' .. scope .. ' (' .. cause .. ')' .. (detail ~= '' and ': ' .. detail or ''))
  return true
end

local function resume(scope, why)
  if redis.call('HDEL', PAUSES, scope) == 0 then return false end
  redis.call('HSET', RESUMED, scope, now)
  if scope == 'account' then redis.call('HDEL', HEALTH, 'refusals') end
  if scope == 'breaker' then redis.call('DEL', OUTCOMES) end
  if scope:sub(1, 9) == 'template:' then
    redis.call('DEL', 'smsq:reports:' .. scope:sub(10))
    redis.call('SADD', RELEASED, scope:sub(10))
  end
  tell('resumed ' .. scope .. ': ' .. why)
  return true
end

-- A probe got through: resume, if the pause has that cause and the probe began after it.
local function heal(scope, cause, begun)
  local p = paused(scope)
  if p and p.cause == cause and tonumber(begun) >= p.since then
    resume(scope, 'a probe got through')
  end
end

-- Count in a window that moves on by halves; give how many were good and bad in it.
local function tally(key, window, bad)
  local f = redis.call('HMGET', key, 'start', 'good', 'bad', 'good_before', 'bad_before')
  local start, half = tonumber(f[1] or 0), window / 2
  local g, b, gb, bb = tonumber(f[2] or 0), tonumber(f[3] or 0), tonumber(f[4] or 0),
    tonumber(f[5] or 0)
  if now >= start + window then
    start, g, b, gb, bb = now, 0, 0, 0, 0
  elseif now >= start + half then
    start, g, b, gb, bb = start + half, 0, 0, g, b
  end
  if bad then b = b + 1 else g = g + 1 end
  redis.call('HSET', key, 'start', start, 'good', g, 'bad', b, 'good_before', gb,
    'bad_before', bb)
  return g + gb, b + bb
end

-- The limit, and what is left of it while the gateway wants less: it comes back step by step.
local function rate(limit, burst)
  local f = redis.call('HMGET', RATE_KEY, 'limit', 'burst', 'tat', 'slow', 'slow_at', 'since')
  local r = {limit = tonumber(f[1]) or tonumber(limit) or RATE,
    burst = tonumber(f[2]) or tonumber(burst) or BURST, tat = tonumber(f[3]) or 0,
    slow_at = tonumber(f[5]) or 0, since = tonumber(f[6]) or 0}
  local steps = math.max(0, math.floor((now - r.slow_at) / RECOVERY_MS))
  local slow = tonumber(f[4]) and f[4] + steps * RECOVERY * r.limit or r.limit
  r.now = math.min(r.limit, math.max(slow, r.limit * SLOWEST))
  return r
end

-- The gateway says that calls come too fast. Calls begun before the last step say nothing new.
local function slow_down(begun, why)
  local r = rate()
  if tonumber(begun) < r.slow_at then return end
  local slow = math.max(r.now / 2, r.limit * SLOWEST)
  redis.call('HSET', RATE_KEY, 'slow', tostring(slow), 'slow_at', now)
  if slow < r.now then
    tell(string.format('slowed down to %g of %g calls a second: %s', slow, r.limit, why))
  end
end

-- Wait until the template's pause is over.
local function wait_for_template(m)
  defer(m, m.expires - now)
  redis.call('ZADD', waiting_room(m.template), now, m.id)
end

-- Keep the number from being called: for good, or for a while.
local function shield_number(m, r)
  if not m.who then return end
  if (r.suppress_ms or 0) > 0 then
    local payload = redis.call('GET', 'smsq:p:' .. m.id)
    redis.call('HSET', 'smsq:suppressed', m.who, cjson.encode({
      phone = payload and cjson.decode(payload)[1] or '', reason = r.stat, since = now,
      ['until'] = now + r.suppress_ms}))
  end
  if (r.hold_ms or 0) > 0 then
    redis.call('SET', 'smsq:hold:' .. m.who, now + r.hold_ms, 'PX', r.hold_ms)
  end
end

-- What a report on an attempt says of the account, the template and the rate.
local function heed_report(m, begun, r)
  if r.slow_down then slow_down(begun, r.stat) end
  if r.pause == 'account' then
    if since_resumed('account', begun) then pause('account', 'report', r.stat) end
  else
    heal('account', 'report', begun)
  end
  local scope = 'template:' .. m.template
  local bad = r.pause == 'template'
  if since_resumed(scope, begun) then
    local key = 'smsq:reports:' .. m.template
    local good, bads = tally(key, TEMPLATE_WINDOW, bad)
    redis.call('PEXPIRE', key, TEMPLATE_WINDOW)
    if bad and bads >= TEMPLATE_REPORTS and bads * 100 >= TEMPLATE_PERCENT * (good + bads) then
      pause(scope, 'report', r.stat)
    end
  end
  if r.class == 'delivered' then heal(scope, 'report', begun) end
end

-- Whether no later attempt can have been sent, so that the message is what this one is.
local function is_last_sent(m, n)
  for later = n + 1, m.n do
    local at, outcome = unpack(redis.call('HMGET', m.key, later .. ':at', later .. ':outcome'))
    if at and outcome ~= 'not_sent' and outcome ~= 'refused' then return false end
  end
  return true
end

-- Delivered outranks everything; the rest counts only where n is the last attempt that may have been
-- sent.
local function follow_report(m, n, mid, r, begun, known)
  set(m, n .. ':stat', r.stat)
  if not KNOWN[m.state] then return end
  -- One that is repeated is no pattern.
  if known ~= r.stat then heed_report(m, begun or 0, r) end
  if r.class == 'delivered' then
    set(m, 'stat', r.stat)
    if m.state ~= 'delivered' then finish(m, 'delivered') end
    -- Its mid has told all that it can.
    redis.call('PEXPIRE', 'smsq:mid:' .. mid, math.min(REPEATED, RETENTION))
    return
  end
  shield_number(m, r)
  if (FINAL[m.state] and m.state ~= 'unreported') or not is_last_sent(m, n) then return end
  set(m, 'stat', r.stat)
  local reason = 'report:' .. r.stat
  local came_not = m.state == 'accepted' and not r.maybe_sent
  if came_not and r.pause == 'template' and paused('template:' .. m.template) then
    -- The template is known to be at fault: it waits with the others.
    set(m, 'otherwise', reason)
    wait_for_template(m)
  elseif came_not and r.pause == 'account' and r.class == 'transient' then
    -- The account is at fault: that uses up nothing.
    set(m, 'otherwise', reason)
    defer(m, r.wait_ms)
  elseif r.class == 'permanent' or (r.class == 'transient' and m.state == 'unreported') then
    finish(m, 'failed', reason)
  elseif r.class == 'transient' and m.state == 'accepted' then
    if r.maybe_sent and m.hold then hold(m) else resend(m, r.wait_ms, r.maybe_sent, reason) end
  end
end

-- Apply a report {stat, class, wait_ms, maybe_sent, pause, suppress_ms, hold_ms, slow_down} on
-- attempt n, by its mid.
local function apply_report(m, n, mid, r)
  unfold(m)
  local begun, known, accepted = unpack(redis.call('HMGET', m.key, n .. ':at', n .. ':stat',
    'accepted'))
  local before = m.state
  follow_report(m, n, mid, r, begun, known)
  if begun and m.state ~= before and (m.state == 'delivered' or m.state == 'failed') then
    -- When an older call got its mid is not kept; that was soon after it began.
    local is_last = n == m.n and tonumber(accepted or 0) >= tonumber(begun)
    took('delivery', m, now - (is_last and accepted or begun))
  end
  if FINAL[m.state] then fold(m) end
end

-- How many calls were let go since the last answer and have not come to anything.
local function unanswered()
  local sending = 0
  for _, n in ipairs(redis.call('HMGET', LIVE, 'otp:sending', 'notice:sending', 'bulk:sending')) do
    sending = sending + tonumber(n or 0)
  end
  -- An attempt that a report has settled meanwhile leaves its count behind.
  return math.min(sending, tonumber(redis.call('HGET', HEALTH, 'unanswered') or 0))
end

local function answered(by_the_gateway)
  if by_the_gateway then
    redis.call('HDEL', HEALTH, 'unanswered')
  elseif unanswered() > 0 then
    redis.call('HINCRBY', HEALTH, 'unanswered', -1)
  end
end

-- Note an outcome; give how many of the last failed in the breaker's time. Of the last, and not
-- of all in that time: an hour of good calls must not hide an outage for another half a minute.
local function failed_lately(trouble)
  redis.call('LPUSH', OUTCOMES, trouble and now or 0)
  redis.call('LTRIM', OUTCOMES, 0, math.ceil(BREAKER[1] * 100 / BREAKER[2]) - 1)
  if not trouble then return 0 end
  local failed = 0
  for _, at in ipairs(redis.call('LRANGE', OUTCOMES, 0, -1)) do
    if now < tonumber(at) + BREAKER[3] then failed = failed + 1 end
  end
  return failed
end

-- What a call's outcome says of the account and the gateway. True where the message is to wait
-- for the account instead of failing.
local function heed_call(outcome, detail, begun, trouble)
  local alive = outcome == 'accepted' or outcome == 'refused'
  answered(alive)
  if alive then heal('breaker', 'outage', begun) end
  if BREAKER and (alive or trouble) and since_resumed('breaker', begun)
      and failed_lately(trouble) >= BREAKER[1] then
    pause('breaker', 'outage', detail)
  end
  if outcome == 'accepted' then
    redis.call('HDEL', HEALTH, 'refusals')
    heal('account', 'refusals', begun)
  elseif outcome == 'refused' then
    if paused('account') then return true end
    if since_resumed('account', begun)
        and redis.call('HINCRBY', HEALTH, 'refusals', 1) >= REFUSALS_IN_A_ROW then
      pause('account', 'refusals', REFUSALS_IN_A_ROW .. ' in a row, the last: ' .. detail)
    end
  end
  return false
end
