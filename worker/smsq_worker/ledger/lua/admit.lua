-- May these messages go now? Those that may are `sending` from here on, under a lease.
--
-- ARGV[1] '1' where a payload that anybody can read is to be encrypted first
-- ARGV[2...] id, the turn that has been booked for it or '', id, turn, ...
-- Returns {events, answer, ...}, in order; after one that is not booked, plain or paused, none:
--   {'go', attempt, payload, template, us, begun, trace}  the call departs then; begun: its time
--     in ms; trace only if it has one
--   {'wait', us}          ask again then
--   {'booked', us, turn}  a turn is booked: ask again then, with it
--   {'plain', payload}    encrypt it, then ask again
--   {'paused'}            nothing goes: give the wake-up back
--   {why, state}          it does not go: copy, expired, ended or deferred
--   {'unknown'}
--   {'bad'}               nothing can be made of it: it was set aside
--
-- One act, because of two copies of one wake-up only one may go, because a worker that dies
-- after it must leave a lease behind, and because limits hold only if asking is taking.
-- Whoever dies while it waits has taken a turn at most: nothing was called.

-- How far ahead a lane may book, in us: less is less in the way of the lanes before it.
local AHEAD = {otp = 1000000, notice = 250000, bulk = 100000}
-- A message in doubt is no probe of the gateway while others can be: each probe that comes to
-- nothing costs it a resend.
local PROBE_IN_DOUBT = 4 * PROBE
-- So many calls, or two seconds' worth, may be under way without an answer to any: where the
-- gateway has fallen silent, that is known only when the first of them time out.
local UNANSWERED = 20
-- How long a message waits that must not be sent for now.
local STOPPED = 60000
local SEALED = ARGV[1] == '1'

-- Whether anything must not be sent: a message (its field `stop`), a campaign or an account (in
-- this hash). This release only obeys such marks; they are set by later ones.
local STOPS = redis.call('EXISTS', 'smsq:stops') == 1
local function stop_of(m)
  if m.stop or not STOPS then return m.stop end
  local of = redis.call('HMGET', 'smsq:stops', 'campaign:' .. m.campaign, 'account:' .. m.account)
  return of[1] or of[2]
end

local function admit(id, booked)
  local m = load(id)
  if not m then return {'unknown'} end
  if m.state ~= 'queued' then return {'copy', m.state} end

  local function ended(why)
    return {why or 'ended', m.state}
  end

  if now >= m.expires then
    expire(m)
    return ended('expired')
  end
  local stop = stop_of(m)
  if stop == 'cancelled' then
    cancel(m)
    return ended()
  elseif stop then
    defer(m, STOPPED)
    return ended('deferred')
  end
  local payload = redis.call('GET', 'smsq:p:' .. m.id)
  if not payload then
    -- A server with an eviction policy took it.
    finish(m, 'failed', 'local:lost')
    return ended()
  end
  if not is_utf8(payload .. m.template) then error('its payload is no text') end
  if SEALED and payload:find('^%["%d') then return {'plain', payload} end

  -- The number: suppressed, held by the gateway's own limit, or asked for too often?

  local function too_often(allowed)
    set(m, 'allowed', allowed)
    finish(m, 'failed', 'local:frequency')
    return ended()
  end

  local suppressed = m.who and redis.call('HGET', 'smsq:suppressed', m.who)
  if suppressed then
    local entry = cjson.decode(suppressed)
    if now < entry['until'] then
      set(m, 'detail', 'suppressed: ' .. entry.reason)
      finish(m, 'failed', 'local:suppressed')
      return ended()
    end
    redis.call('HDEL', 'smsq:suppressed', m.who)
  end

  local held_until = m.who and tonumber(redis.call('GET', 'smsq:hold:' .. m.who) or 0)
  if held_until and now < held_until then
    if held_until >= m.expires then return too_often(held_until) end
    defer(m, held_until - now)
    return ended('deferred')
  end

  local limited = PHONE_LIMITS[1] and m.who and m.lane == 'otp' and m.n == 0
  local sent_key = limited and 'smsq:sent:' .. m.who
  if limited then
    local sent, allowed = redis.call('LRANGE', sent_key, 0, -1), 0
    for i, at in ipairs(sent) do
      sent[i] = moved(tonumber(at), 0)
      if sent[i] < tonumber(at) then redis.call('LSET', sent_key, i - 1, whole(sent[i])) end
    end
    for _, limit in ipairs(PHONE_LIMITS) do
      local oldest = tonumber(sent[limit[1]] or 0)
      if now < oldest + limit[2] then allowed = math.max(allowed, oldest + limit[2]) end
    end
    if allowed > 0 then return too_often(allowed) end
  end

  -- The hour, for bulk.

  if BULK_HOURS and m.lane == 'bulk' then
    local from, to = BULK_HOURS[1], BULK_HOURS[2]
    local minute = (now / 60000 + 480) % 1440  -- Asia/Shanghai is 8 h ahead, without summer time
    if (minute - from) % 1440 >= (to - from) % 1440 then
      defer(m, math.ceil((from - minute) % 1440 * 60000))
      return ended('deferred')
    end
  end

  -- Pauses.

  local probes = {}
  local function stopped(scope, text)
    if not text then return false end
    local p = pause_of(text)
    probes[scope] = p
    return not p.permit
  end

  local template = 'template:' .. m.template
  local pauses = redis.call('HMGET', PAUSES, 'account', 'breaker', template)
  if stopped('account', pauses[1]) or stopped('breaker', pauses[2]) then
    return {'paused'}
  end
  if m.doubt and probes.breaker and now < probes.breaker.permit + PROBE_IN_DOUBT then
    defer(m, math.min(PROBE, 5000))
    return ended('deferred')
  end
  if stopped(template, pauses[3]) then
    wait_for_template(m)
    return ended('deferred')
  end

  -- The rate. Turns are booked one gap apart (GCRA), so that late workers lose none of them; and
  -- departures are counted in a window, so that late ones do not crowd together.

  local r = rate()
  if unanswered() >= math.max(UNANSWERED, 2 * r.now) then return {'wait', 100000} end
  local turn = tonumber(booked)
  if not turn then
    begins(r)
    local gap = 1000000 / (share(r) * r.now)
    -- None is booked further ahead, but before the rate was raised.
    local tat = math.min(r.tat, us + AHEAD.otp + r.burst * gap)
    if tat < r.tat then redis.call('HSET', RATE_KEY, 'tat', in_us(tat)) end
    turn = math.max(us, tat - (r.burst - 1) * gap)
    local wait = turn - us - AHEAD[m.lane]
    if wait > 0 then return {'wait', math.ceil(wait)} end
    redis.call('HSET', RATE_KEY, 'tat', in_us(math.max(tat, us) + gap))
  end
  -- One that was booked and comes late departs a little later, for the same reason.
  -- Nobody asks before it: one that lies ahead was booked before the clock was set back.
  if booked ~= '' then turn = math.max(us + EARLY / 3, math.min(turn, us + EARLY)) end
  turn = room(r, turn)
  if turn > us + EARLY then
    return {'booked', math.ceil(turn - us - EARLY), in_us(turn)}
  end

  -- It goes.

  redis.call('HINCRBY', HEALTH, 'unanswered', 1)
  departs(r, turn, m.n + 1 .. ' ' .. m.id)
  for scope, p in pairs(probes) do
    p.permit = nil
    keep(scope, p)
  end
  if limited then
    local most, longest = 0, 0
    for _, limit in ipairs(PHONE_LIMITS) do
      most, longest = math.max(most, limit[1]), math.max(longest, limit[2])
    end
    redis.call('LPUSH', sent_key, now)
    redis.call('LTRIM', sent_key, 0, most - 1)
    redis.call('PEXPIRE', sent_key, longest)
  end
  m.n = m.n + 1
  move(m, 'sending', 'n', m.n, m.n .. ':at', now)
  timer(m, now + LEASE)
  if m.doubt then count('possible_duplicates') end
  return {'go', m.n, payload, m.template, math.ceil(turn - us), now, m.trace}
end

local LAST = {wait = true, plain = true, paused = true}
local answers = {events}
for i = 2, #ARGV, 2 do
  local id = ARGV[i]
  local answer = apart('message', id, admit, id, ARGV[i + 1])
  if not answer then
    answer = {'bad'}
    redis.call('ZADD', TIMERS, 'XX', now + AGAIN_MS, id)
  end
  answers[#answers + 1] = answer
  if LAST[answer[1]] then break end
end
return answers
