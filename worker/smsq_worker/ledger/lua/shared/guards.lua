-- What may keep a message from going, by one rule each: it returns why it may not go, as admit.lua
-- answers, or nil, and leaves in `go` what its admission needs to know.
-- needs: ends pauses breaker window campaign_rate routes

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
local stops = {}

local function ended(m, why)
  return {why or 'ended', m.state}
end

local function deferred(m, wait_ms)
  defer(m, wait_ms)
  return {'deferred', m.state}
end

local function failed(m, reason, field, value)
  set(m, field, value)
  finish(m, 'failed', reason)
  return ended(m)
end

local function too_often(m, allowed)
  return failed(m, 'local:frequency', 'allowed', allowed)
end

local function ttl_over(m)
  if now < m.expires then return end
  expire(m)
  return ended(m, 'expired')
end

-- Read, once for those that share them, why what an account sends must not be sent, and whether an
-- operator decided anything of a campaign. This release sets none for accounts: later ones do.
local function stops_of(m)
  local name = m.campaign and m.account .. '\t' .. m.campaign or m.account
  local found = stops[name]
  if not found then
    found = redis.call('HMGET', KEY_STOPS, 'account:' .. m.account, 'campaign:' .. (m.campaign or ''))
    stops[name] = found
  end
  return found[1], found[2]
end

local function stopped(m)
  local stop, is_decided = stops_of(m)
  stop, m.is_decided = m.stop or stop, is_decided
  if m.is_decided and not stop then
    stop = campaign_of(m).stop
    if stop == 'paused' then
      wait_for_campaign(m)
      return {'deferred', m.state}
    end
  end
  if stop == 'cancelled' then
    if not m.stop and is_left_to_sweep(m) then
      return {'ended', certainly_not_sent(m) and 'cancelled' or 'failed'}
    end
    cancel(m)
    return ended(m)
  end
  return stop and deferred(m, STOPPED) or nil
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
  return failed(m, 'local:suppressed', 'detail', 'suppressed: ' .. entry.reason .. in_lane)
end

-- The gateway's own limit per number, or its channel's blacklist, see shield_number. Returns until when
-- it takes nothing for the number, and whether it is the latter.
local function held_until(m, of)
  local text = m.phone_hash and redis.call('GET', KEY_PHONE_HOLD .. m.phone_hash .. of)
  local at, lanes = string.match(text or '', '^(%d+) ?(.*)$')
  at = tonumber(at or 0)
  if now < at and (lanes == '' or is_word(lanes, m.lane)) then return at, text:find(' ', 1, true) ~= nil end
end

local function wait_for_number(m, at, is_listed)
  if at < m.expires then return deferred(m, at - now) end
  if not is_listed then return too_often(m, at) end
  set(m, 'allowed', at)
  return failed(m, 'local:suppressed', 'detail', 'suppressed: on the blacklist of each account of its route')
end

local function number_held_by_gateway(m, go)
  local at, is_listed = held_until(m, go.of)
  return at and wait_for_number(m, at, is_listed)
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

-- Return what pauses a message at an account: 'account', 'doubt' or 'template'; nil for nothing.
local function paused_at(of, m, go)
  local texts = open(KEY_PAUSES).f
  if not next(texts) then return end
  local account, breaker, template = 'account' .. of, 'breaker' .. of, template_at(of, m.template)
  local function stops(scope, text)
    local p = text and pause_of(text)
    if not p or not stops_lane(p, m.lane) then return false end
    go.probes[scope] = p
    return m.f.test or not p.permit
  end

  if stops(account, texts[account]) or stops(breaker, texts[breaker]) then return 'account' end
  local outage = go.probes[breaker]
  if m.doubt and outage and now < outage.permit + PROBE_IN_DOUBT then return 'doubt' end
  if stops(template, texts[template]) then return 'template' end
end

local function under_a_pause(m, go)
  local what = paused_at(go.of, m, go)
  if what == 'account' and not m.f.test then return {'paused'} end
  if what == 'template' then
    wait_for_template(m)
    return {'deferred', m.state}
  end
  -- A test is no probe, and must not keep one behind it from being asked for.
  return what and deferred(m, math.min(PROBE, 5000))
end

-- Its campaign has a rate of its own, and no slot for it yet.
local function campaign_slower(m)
  if not m.is_decided or has_turn(m) then return end
  wait_for_campaign(m)
  return {'deferred', m.state}
end

local function is_silent(r)
  return unanswered(r.of) >= math.max(UNANSWERED, 2 * r.now)
end

local function gateway_silent(m, go)
  if m.f.test then return end
  go.rate = rate(go.of)
  if is_silent(go.rate) then return {'wait', 100000} end
end

local function book(r, tat)
  r.tat = tat
  if r.is_booked then return end
  r.is_booked = true
  at_end(function() set(open(KEY_RATE .. r.of), 'tat', whole(r.tat)) end)
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
    local wait = slot - us - (go.ahead or AHEAD[m.lane])
    local is_free = wait <= 0
    if is_free then tat = math.max(tat, us) + gap end
    if tat ~= r.tat then book(r, tat) end
    if not is_free then return {'wait', math.ceil(wait)} end
  end
  -- One that was booked and comes late goes a little later, for the same reason.
  -- Nobody asks before it: one that lies ahead was booked before the clock was set back.
  if go.booked ~= '' then slot = math.max(us + EARLY / 3, math.min(slot, us + EARLY)) end
  slot = room(r, slot)
  if slot > us + EARLY then
    return {'booked', math.ceil(slot - us - EARLY), whole(slot) .. r.of}
  end
  go.at = slot
end

local function fits_nowhere(m, detail)
  return failed(m, 'local:no-account', 'detail', detail)
end
