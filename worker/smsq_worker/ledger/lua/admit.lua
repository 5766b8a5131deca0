-- Decide whether messages may go now. Those that may are `sending` from here on, under a lease.
-- needs: set_aside ends pauses breaker window campaign_rate
--
-- ARGV[1] '1' where a payload that anybody can read is to be encrypted first
-- ARGV[2] a text that no other call has: a client whose connection was lost sends its call again
-- ARGV[3...] id, the slot that has been booked for it or '', id, slot, ...; instead of a slot, of a
--   number that was looked at: 'real', or of a test number 'test ' and the stat to report
-- Returns {events, answer, ...}, in order; a 'wait', 'plain', 'look' or 'paused' is the last:
--   {'go', attempt, payload, template, us, begun, trace}  its send time is in us; begun: when the
--     attempt began, in ms; trace only if it has one
--   {'test', ...}         the same, of a test number: the gateway is not to be called
--   {'look', payload}     look whether this is a test number, then ask again
--   {'wait', us}          ask again then
--   {'booked', us, slot}  a slot is booked: ask again then, with it
--   {'plain', payload}    encrypt it, then ask again
--   {'paused'}            nothing goes: give the wake-up back
--   {why, state}          it does not go: copy, expired, ended or deferred
--   {'unknown'}
--   {'bad'}               it cannot be processed: it was set aside
--
-- One act, because only one of two copies of a wake-up may go, because a worker that dies after it
-- must leave a lease behind, and because limits hold only if asking is taking.
-- A worker that dies while it waits has taken a slot at most: nothing was sent.

-- How far ahead a lane may book, in us: less is less in the way of the lanes before it.
local AHEAD = {otp = 1000000, notice = 250000, bulk = 100000}
-- A message in doubt is not used as a probe of the gateway while others can be: each probe that fails
-- costs it a resend.
local PROBE_IN_DOUBT = 4 * PROBE
-- This many attempts, or two seconds' worth, may be in flight without an answer to any: that the
-- gateway has fallen silent is known only when the first of them time out.
local UNANSWERED = 20
-- How long a message waits that must not be sent for now.
local STOPPED = 60000
local ENCRYPT, ASKER = ARGV[1] == '1', ARGV[2]
-- Marks of what must not be sent. This release only obeys them; they are set by later ones.
local HAS_STOPS = redis.call('EXISTS', KEY_STOPS) == 1

local function ended(m, why)
  return {why or 'ended', m.state}
end

local function deferred(m, wait_ms)
  defer(m, wait_ms)
  return {'deferred', m.state}
end

local function too_often(m, allowed)
  set(m, 'allowed', allowed)
  finish(m, 'failed', 'local:frequency')
  return ended(m)
end

-- The guards, in their order: each returns why a message may not go, or nil, and leaves in `go` what
-- its admission needs to know.

-- Answer again what a lost connection kept from the caller: its messages are under way to nobody, and
-- their leases would end in doubt. Their send times are over, so it asks for others (depart.lua).
local function again(m)
  set(m, 'by', ASKER)  -- A write, so that WAIT waits for what was written before.
  local payload = redis.call('GET', KEY_PAYLOAD .. m.id)
  return {m.f.test and 'test' or 'go', m.n, payload or '', m.template, -1000000,
    m.f[attempt(m.n).at], m.trace}
end

local function copy(m)
  if m.state == 'sending' and m.f.by == ASKER then return again(m) end
  if m.state ~= 'queued' then return {'copy', m.state} end
end

local function ttl_over(m)
  if now < m.expires then return end
  expire(m)
  return ended(m, 'expired')
end

local function stopped(m)
  local stop = m.stop
  if HAS_STOPS and not stop then
    stop = redis.call('HGET', KEY_STOPS, 'account:' .. m.account)
  end
  if m.campaign and not stop then
    stop = campaign_of(m).stop
    if stop == 'paused' then
      wait_for_campaign(m)
      return {'deferred', m.state}
    end
  end
  if stop == 'cancelled' then
    cancel(m)
    return ended(m)
  end
  return stop and deferred(m, STOPPED) or nil
end

local function payload_unusable(m, go)
  local payload = redis.call('GET', KEY_PAYLOAD .. m.id)
  if not payload then
    -- A server with an eviction policy took it.
    finish(m, 'failed', 'local:lost')
    return ended(m)
  end
  if not is_utf8(payload .. m.template) then error('its payload is no text') end
  if ENCRYPT and payload:find('^%["%d') then return {'plain', payload} end
  go.payload = payload
end

-- Find out what is reported of its number, if that is a test number. Of an encrypted one only the
-- mask can be compared here. What tests say of the gateway, or take from it, is nothing.
local function test_number(m, go)
  local number = string.match(go.payload, '^%["(%d+)"')
  for i = 1, go.is_known and 0 or #TEST_NUMBERS do
    local first, stat = unpack(TEST_NUMBERS[i])
    local seen, shown = m.f.phone or '', number or first
    if number and number:sub(1, #first) == first then
      go.test = stat
      break
    elseif not number and seen:sub(1, 3) == shown:sub(1, 3)
        and (#shown < 8 or seen:sub(8, #shown) == shown:sub(8)) then
      return {'look', go.payload}
    end
  end
  if go.test then set(m, 'test', go.test) else drop(m, 'test') end
end

local function suppressed(m)
  local text = m.phone_hash and redis.call('HGET', KEY_SUPPRESSED, m.phone_hash)
  if not text then return end
  local entry = cjson.decode(text)
  if now >= entry['until'] then
    redis.call('HDEL', KEY_SUPPRESSED, m.phone_hash)
    return
  end
  local in_lane = ''
  if entry.lanes then  -- see suppression.lua
    entry, in_lane = entry.lanes[m.lane], ' (lane ' .. m.lane .. ')'
    if not entry or now >= entry['until'] then return end
  end
  set(m, 'detail', 'suppressed: ' .. entry.reason .. in_lane)
  finish(m, 'failed', 'local:suppressed')
  return ended(m)
end

-- The gateway's own limit per number.
local function number_held_by_gateway(m)
  local at = m.phone_hash and tonumber(redis.call('GET', KEY_PHONE_HOLD .. m.phone_hash) or 0)
  if not at or now >= at then return end
  return at >= m.expires and too_often(m, at) or deferred(m, at - now)
end

-- Otps to one number; resends are not another message.
local function number_too_frequent(m, go)
  if not (PHONE_LIMITS[1] and m.phone_hash and m.lane == 'otp' and m.n == 0) then return end
  go.sent_key = KEY_SENT .. m.phone_hash
  local sent, allowed = redis.call('LRANGE', go.sent_key, 0, -1), 0
  for i, at in ipairs(sent) do
    sent[i] = moved(tonumber(at), 0)
    if sent[i] < tonumber(at) then redis.call('LSET', go.sent_key, i - 1, whole(sent[i])) end
  end
  for _, limit in ipairs(PHONE_LIMITS) do
    local oldest = tonumber(sent[limit[1]] or 0)
    if now < oldest + limit[2] then allowed = math.max(allowed, oldest + limit[2]) end
  end
  if allowed > 0 then return too_often(m, allowed) end
end

local function outside_bulk_hours(m)
  if not BULK_HOURS or m.lane ~= 'bulk' then return end
  local from, to = BULK_HOURS[1], BULK_HOURS[2]
  local minute = (now / 60000 + 480) % 1440  -- Asia/Shanghai is 8 h ahead, without summer time
  if (minute - from) % 1440 >= (to - from) % 1440 then
    return deferred(m, math.ceil((from - minute) % 1440 * 60000))
  end
end

local function under_a_pause(m, go)
  local texts = open(KEY_PAUSES).f
  if not next(texts) then return end
  local template = 'template:' .. m.template
  local function stops(scope, text)
    local p = text and pause_of(text)
    if not p or not stops_lane(p, m.lane) then return false end
    go.probes[scope] = p
    return m.f.test or not p.permit
  end

  if stops('account', texts.account) or stops('breaker', texts.breaker) then
    -- A test is no probe, and must not keep one behind it from being asked for.
    return m.f.test and deferred(m, math.min(PROBE, 5000)) or {'paused'}
  end
  local outage = go.probes.breaker
  if m.doubt and outage and now < outage.permit + PROBE_IN_DOUBT then
    return deferred(m, math.min(PROBE, 5000))
  end
  if stops(template, texts[template]) then
    wait_for_template(m)
    return {'deferred', m.state}
  end
end

-- Its campaign has a rate of its own, and no slot for it yet.
local function campaign_slower(m)
  if not m.campaign or has_turn(m) then return end
  wait_for_campaign(m)
  return {'deferred', m.state}
end

local function gateway_silent(m, go)
  if m.f.test then return end
  go.rate = rate()
  if unanswered() >= math.max(UNANSWERED, 2 * go.rate.now) then return {'wait', 100000} end
end

local is_booked
local function book(r, tat)
  r.tat = tat
  if is_booked then return end
  is_booked = true
  at_end(function() set(open(KEY_RATE), 'tat', whole(r.tat)) end)
end

-- Slots are booked one gap apart (GCRA), so that late workers lose none of them; and send times are
-- counted in a window, so that late ones do not crowd together.
local function no_slot_yet(m, go)
  if m.f.test then return end
  local r, slot = go.rate, tonumber(go.booked)
  if not slot then
    begins(r)
    local gap = 1000000 / (share(r) * r.now)
    -- None is booked further ahead, but before the rate was raised.
    local tat = math.min(r.tat, us + AHEAD.otp + r.burst * gap)
    slot = math.max(us, tat - (r.burst - 1) * gap)
    local wait = slot - us - AHEAD[m.lane]
    local is_free = wait <= 0
    if is_free then tat = math.max(tat, us) + gap end
    if tat ~= r.tat then book(r, tat) end
    if not is_free then return {'wait', math.ceil(wait)} end
  end
  -- One that was booked and comes late goes a little later, for the same reason.
  -- Nobody asks before it: one that lies ahead was booked before the clock was set back.
  if go.booked ~= '' then slot = math.max(us + EARLY / 3, math.min(slot, us + EARLY)) end
  slot = room(r, slot)
  if slot > us + EARLY then return {'booked', math.ceil(slot - us - EARLY), whole(slot)} end
  go.at = slot
end

local GUARDS = {copy, ttl_over, stopped, payload_unusable, test_number,
  suppressed, number_held_by_gateway, number_too_frequent, outside_bulk_hours, under_a_pause,
  campaign_slower, gateway_silent, no_slot_yet}

local function depart(m, go)
  if not m.f.test then
    count_unanswered(1)
    departs(go.rate, go.at, m.n + 1 .. ' ' .. m.id)
    for scope, p in pairs(go.probes) do
      p.permit = nil
      keep(scope, p)
    end
  end
  if go.sent_key then
    local most, longest = 0, 0
    for _, limit in ipairs(PHONE_LIMITS) do
      most, longest = math.max(most, limit[1]), math.max(longest, limit[2])
    end
    redis.call('LPUSH', go.sent_key, now)
    redis.call('LTRIM', go.sent_key, 0, most - 1)
    redis.call('PEXPIRE', go.sent_key, longest)
  end
  m.n = m.n + 1
  drop(m, 'turn')
  move(m, 'sending', 'n', m.n, attempt(m.n).at, now, 'by', ASKER)
  timer(m, now + LEASE)
  if m.f.test then return {'test', m.n, go.payload, m.template, 0, now, m.trace} end
  if m.doubt then count('possible_duplicates') end
  return {'go', m.n, go.payload, m.template, math.ceil(go.at - us), now, m.trace}
end

local function admit(id, booked)
  local m = load(id)
  if not m then return {'unknown'} end
  local go = {booked = tonumber(booked) and booked or '', is_known = booked ~= '',
    test = string.match(booked, '^test (.+)$'), probes = {}}
  for i = 1, #GUARDS do
    local why_not = GUARDS[i](m, go)
    if why_not then
      save(m)
      return why_not
    end
  end
  local answer = depart(m, go)
  save(m)
  return answer
end

local LAST = {wait = true, plain = true, look = true, paused = true}
return whole_act(function()
  local answers = {events}
  for i = 3, #ARGV, 2 do
    local id = ARGV[i]
    local answer = apart('message', id, admit, id, ARGV[i + 1])
    if not answer then
      answer = {'bad'}
      redis.call('ZADD', KEY_TIMERS, 'XX', now + AGAIN_MS, id)
    end
    answers[#answers + 1] = answer
    if LAST[answer[1]] then break end
  end
  return answers
end)
