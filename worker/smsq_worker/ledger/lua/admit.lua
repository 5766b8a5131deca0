-- Decide whether messages may go now. Those that may are `sending` from here on, under a lease.
-- needs: set_aside ends pauses breaker window campaign_rate routes
--
-- ARGV[1] '1' where a payload that anybody can read is to be encrypted first
-- ARGV[2] a text that no other call has: a client whose connection was lost sends its call again
-- ARGV[3...] id, the slot that has been booked for it or '', id, slot, ...; instead of a slot, of a
--   number that was looked at: 'real', or of a test number 'test ' and the stat to report
-- Returns {events, answer, ...}, in order; a 'wait', 'plain', 'look' or 'paused' is the last:
--   {'go', attempt, payload, template, us, begun, trace, account}  its send time is in us; begun:
--     when the attempt began, in ms; trace only if it has one, and account only if that has a key
--   {'test', ...}         the same, of a test number: the gateway is not to be called
--   {'look', payload}     look whether this is a test number, then ask again
--   {'wait', us}          ask again then
--   {'later', us}         the same, where others may go meanwhile, through another account
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
-- Whoever waits longer than that for a slot does not wait in a worker, in the way of others, in us.
local LONG = 1000000
-- How long a message waits that must not be sent for now.
local STOPPED = 60000
local encrypt, asker = ARGV[1] == '1', ARGV[2]
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

-- The guards, in their order: each returns why a message may not go, or nil, and leaves in `go` what
-- its admission needs to know.

-- Name the account in an answer, where that has a key.
local function with_account(answer, m)
  if m.of ~= '' then answer[7], answer[8] = m.trace or '', m.of:sub(2) end
  return answer
end

-- Answer again what a lost connection kept from the caller: its messages are under way to nobody, and
-- their leases would end in doubt. Their send times are over, so it asks for others (depart.lua).
local function again(m)
  set(m, 'by', asker)  -- A write, so that WAIT waits for what was written before.
  local payload = redis.call('GET', KEY_PAYLOAD .. m.id)
  return with_account({m.f.test and 'test' or 'go', m.n, payload or '', m.template, -1000000,
    m.f[attempt(m.n).at], m.trace}, m)
end

local function copy(m)
  if m.state == 'sending' and m.f.by == asker then return again(m) end
  if m.state ~= 'queued' then return {'copy', m.state} end
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

local function payload_unusable(m, go)
  local payload = redis.call('GET', KEY_PAYLOAD .. m.id)
  if not payload then
    -- A server with an eviction policy took it.
    finish(m, 'failed', 'local:lost')
    return ended(m)
  end
  if not is_utf8(payload .. m.template) then error('its payload is no text') end
  if encrypt and not go.is_known and payload:find('^%["%d') then return {'plain', payload} end
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
  return failed(m, 'local:suppressed', 'detail', 'suppressed: ' .. entry.reason .. in_lane)
end

-- The gateway's own limit per number.
local function held_until(m, of)
  local text = m.phone_hash and redis.call('GET', KEY_PHONE_HOLD .. m.phone_hash .. of)
  local at, lanes = string.match(text or '', '^(%d+) ?(.*)$')
  at = tonumber(at or 0)
  return now < at and (lanes == '' or is_word(lanes, m.lane)) and at or nil
end

local function wait_for_number(m, at)
  return at >= m.expires and too_often(m, at) or deferred(m, at - now)
end

local function number_held_by_gateway(m, go)
  local at = held_until(m, go.of)
  return at and wait_for_number(m, at)
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

-- A probe goes over its account, or not at all; whoever enqueued it knows more accounts than this worker.
local function of_unknown_account(m)
  if m.f.via and m.f.via ~= '@' then
    return fits_nowhere(m, 'this worker has no account ' .. m.f.via:sub(2))
  end
end

-- Where there are several accounts: the guards that find one, and a slot there. One function, as what is
-- in it is made only where there are several, and Lua takes 200 locals.
local function guards_of_several()
  local function is_stopped(of)
    local texts = open(KEY_PAUSES).f
    local account, breaker = texts['account' .. of], texts['breaker' .. of]
    return account and not pause_of(account).permit or breaker and not pause_of(breaker).permit
  end

  -- Return whether each account of each route is stopped; of each it is read once, as many routes may
  -- share it.
  local function all_stopped()
    local stopped = {}
    for _, route in ipairs(ROUTES) do
      for _, of in ipairs(route) do
        stopped[of] = stopped[of] or is_stopped(of)
        if not stopped[of] then return false end
      end
    end
    return true
  end

  -- A message that no account takes now, for what is known: how many for which cause.
  local function wait_for_account(m, go, causes)
    if causes.account and all_stopped() and not m.f.test then return {'paused'} end
    if m.f.unsent then
      drop(m, 'unsent')  -- They count again.
    elseif causes.template == causes.all then
      wait_for_template(m)
      return {'deferred', m.state}
    elseif causes.held == causes.all then
      return wait_for_number(m, causes.held_until)
    elseif causes.silent then
      return {'later', 100000}
    end
    local wait_ms = math.min(PROBE, 5000)
    -- Many that come round together would cost others of their time, so they come more rarely.
    if causes.account and m.lane ~= 'otp' then
      wait_ms = math.max(wait_ms, math.min(2 * tonumber(m.f.waits or 0), STOPPED))
    end
    return deferred(m, wait_ms)
  end

  -- An otp is no probe of an account while another takes it at once and there may be others to probe;
  -- nor is a message that would be held if the account is silent.
  local function is_spared(m, go)
    if m.lane ~= 'otp' and not m.hold_on_doubt then return false end
    for _, p in pairs(go.probes) do
      if now < p.permit + PROBE_IN_DOUBT then return true end
    end
    return false
  end

  -- Where it is sent again after a doubt, let those come last that did not answer: that one is silent
  -- is known of it only after many calls. Return the place of each among them.
  local function put_doubtful_last(m, tried)
    local since, places = doubted_at(m), {}
    for n, of in ipairs(tried) do places[of] = n + (since[of] or 0) * #tried end
    table.sort(tried, function(a, b) return places[a] < places[b] end)
    return since
  end

  -- Find the accounts through which a message may go now, but for their slots: `ways`.
  local function no_account(m, go)
    local tried, spared, causes = untried(m), {}, {all = 0, held_until = math.huge}
    if not tried[1] then
      drop(m, 'refused', 'unsent')  -- The settings are others by now, or an account failed it later.
      tried = accounts_of(m)
      if not tried[1] then
        return fits_nowhere(m, 'no account of its route has the template ' .. m.template)
      end
    end
    local doubtful = m.doubt and tried[2] and put_doubtful_last(m, tried) or {}
    go.ways, go.differs = {}, m.f.refused or m.f.unsent or m.f.via or next(doubtful)
    for _, of in ipairs(tried) do
      go.probes = {}
      local held = held_until(m, of)
      local cause = held and 'held' or paused_at(of, m, go)
      local way = {of = of, rate = rate(of), probes = go.probes, doubtful = doubtful[of] or 0}
      if not cause and not m.f.test and is_silent(way.rate) then cause = 'silent' end
      if not cause then
        local found = is_spared(m, go) and spared or go.ways
        found[#found + 1] = way
      else
        go.differs = go.differs or cause ~= 'account' and cause ~= 'silent'
        causes[cause], causes.all = (causes[cause] or 0) + 1, causes.all + 1
        if held then causes.held_until = math.min(causes.held_until, held) end
      end
    end
    if not go.ways[1] then go.ways = spared end
    if not go.ways[1] then return wait_for_account(m, go, causes) end
  end

  -- Return whether messages of a lane may have other routes: then one that waits for its account must not
  -- hold up the others.
  local function several_routes(lane)
    local n = 0
    for _, route in ipairs(ROUTES) do
      if (route.lane or lane) == lane then
        n = n + 1
        if not route.template then break end
      end
    end
    return n > 1
  end

  -- Return an account's weight: the file's, or moved from that by steps, see domain/shares.py.
  local function weight_of(weight, moved)
    local steps, from = string.match(moved or '', '^(%-?%d+) (%d+)$')
    if tonumber(from or 0) ~= weight then return weight end
    return weight * SHARE_STEP ^ math.max(-SHARE_STEPS, math.min(SHARE_STEPS, tonumber(steps)))
  end

  -- Put ways in the order in which their route's weights give them the next message: each has to its
  -- credit what others got before it. Returns also what is to be done when one has taken it.
  local function by_weight(m, ways)
    local route, total, at = route_of(m), 0, {}
    if not route.weights or m.f.via then return false end
    local credits = open(KEY_WEIGHTS)
    for n, of in ipairs(route) do at[of] = n end
    local name = (route.lane or '') .. ' ' .. (route.template or '') .. ' '
    for n, way in ipairs(ways) do
      way.weight, way.field = route.weights[at[way.of]], name .. (way.of == '' and '@' or way.of)
      if route.prefer then way.weight = weight_of(way.weight, credits.f['share:' .. way.field]) end
      way.credit, way.n = (tonumber(credits.f[way.field]) or 0) + way.weight, n
      total = total + way.weight
    end
    table.sort(ways, function(a, b)
      if a.doubtful ~= b.doubtful then return a.doubtful < b.doubtful end
      if a.credit ~= b.credit then return a.credit > b.credit end
      return a.n < b.n
    end)
    return true, function(taken)
      for _, way in ipairs(ways) do
        local credit = way == taken and way.credit - total or way.credit
        set(credits, way.field, math.max(-total, math.min(total, credit)))
      end
    end
  end

  -- Take the first account that has a slot in time. An ordered route waits for the first that has one
  -- before the ttl is over, but an otp; a route with weights takes another that has one now.
  local function no_slot_at_any(m, go)
    local ways, booked, booked_at = go.ways, go.booked, go.booked_at
    local is_urgent, put_off = m.lane == 'otp' and ways[2], nil
    if booked ~= '' then
      for _, way in ipairs(ways) do
        if way.of == booked_at then
          go.of, go.rate, go.probes = way.of, way.rate, way.probes
          put_off = no_slot_yet(m, go)
          -- The rate may have fallen since: an otp looks for a slot elsewhere then.
          if not (put_off and is_urgent and put_off[2] > AHEAD.bulk) then return put_off end
        end
      end
      go.booked = ''
    end
    local is_weighted, charge = by_weight(m, ways)
    local soonest = math.huge
    for _, way in ipairs(ways) do
      go.of, go.rate, go.probes = way.of, way.rate, way.probes
      -- Nor does it wait long for an account that wants fewer than it may get.
      go.ahead = is_urgent and way.rate.now < way.rate.limit and AHEAD.bulk or nil
      local answer = put_off and way.of == booked_at and put_off or no_slot_yet(m, go)
      local is_booked = answer and answer[1] == 'booked'
      if is_booked and (answer == put_off or go.ahead and answer[2] > go.ahead) then
        put_off = put_off or answer
      elseif not answer or is_booked then
        if is_weighted and not m.f.test then charge(way) end
        return answer
      else
        soonest = math.min(soonest, answer[2])
        local in_time = us + answer[2] + AHEAD[m.lane] < m.expires * 1000
        if in_time and not is_weighted and m.lane ~= 'otp' then break end
      end
    end
    if put_off then return put_off end
    if not go.differs and not several_routes(m.lane) then return {'wait', soonest} end
    if soonest > LONG then return deferred(m, math.min(math.ceil(soonest / 1000), 5000)) end
    return {'later', soonest}
  end

  return {copy, ttl_over, stopped, payload_unusable, test_number, suppressed, number_too_frequent,
    outside_bulk_hours, no_account, campaign_slower, no_slot_at_any}
end

local GUARDS = ROUTES and guards_of_several() or {copy, ttl_over, stopped, of_unknown_account,
  payload_unusable, test_number, suppressed, number_held_by_gateway, number_too_frequent,
  outside_bulk_hours, under_a_pause, campaign_slower, gateway_silent, no_slot_yet}

local function depart(m, go)
  if not m.f.test then
    count_unanswered(go.of, 1)
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
  m.n, m.of = m.n + 1, go.of
  drop(m, 'turn')
  if go.of ~= '' then set(m, attempt(m.n).account, go.of:sub(2)) end
  move(m, 'sending', 'n', m.n, attempt(m.n).at, now, 'by', asker)
  timer(m, now + LEASE)
  if m.f.test then return with_account({'test', m.n, go.payload, m.template, 0, now, m.trace}, m) end
  if m.doubt then count('possible_duplicates') end
  return with_account({'go', m.n, go.payload, m.template, math.ceil(go.at - us), now, m.trace}, m)
end

local function admit(id, booked)
  local m = load(id)
  if not m then return {'unknown'} end
  local slot, at = string.match(booked, '^(%d+)(.*)$')
  local go = {booked = slot or '', booked_at = at, is_known = booked ~= '', of = '',
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
