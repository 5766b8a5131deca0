-- Decide whether messages may go now. Those that may are `sending` from here on, under a lease.
-- needs: set_aside guards guards_of_several
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

local encrypt, asker = ARGV[1] == '1', ARGV[2]

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

-- A probe goes over its account, or not at all; whoever enqueued it knows more accounts than this worker.
local function of_unknown_account(m)
  if m.f.via and m.f.via ~= '@' then
    return fits_nowhere(m, 'this worker has no account ' .. m.f.via:sub(2))
  end
end

-- The guards, in their order.
local function guards()
  if not ROUTES then
    return {copy, ttl_over, stopped, of_unknown_account, payload_unusable, test_number,
      suppressed, number_held_by_gateway, number_too_frequent, outside_bulk_hours, under_a_pause,
      campaign_slower, gateway_silent, no_slot_yet}
  end
  local no_account, no_slot_at_any = guards_of_several()
  return {copy, ttl_over, stopped, payload_unusable, test_number, suppressed, number_too_frequent,
    outside_bulk_hours, no_account, campaign_slower, no_slot_at_any}
end

local GUARDS = guards()

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
