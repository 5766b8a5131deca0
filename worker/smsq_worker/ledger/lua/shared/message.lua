-- A message: read, moved from state to state, put under a timer, saved.
-- needs: write_behind

local FINAL = {delivered = 1, failed = 1, expired = 1, unreported = 1, duplicate = 1,
  cancelled = 1}

-- Return the index of the timers that must not wait behind a million others: leases, and what is to
-- go again of the lanes before bulk. Each is in KEY_TIMERS too, which alone is the truth: older
-- releases know no index.
local INDEXED = {otp = KEY_OTP_TIMERS, notice = KEY_NOTICE_TIMERS}
local function index_of(m)
  if m.state == 'sending' then return KEY_LEASES end
  return m.state == 'deferred' and INDEXED[m.lane]
end

-- The names of an attempt's fields. Nearly all are first attempts.
local names = {}
local function attempt(n)
  local fields = names[n]
  if not fields then
    fields = {at = n .. ':at', outcome = n .. ':outcome', detail = n .. ':detail', mid = n .. ':mid',
      stat = n .. ':stat'}
    names[n] = fields
  end
  return fields
end

-- Read a message; nil where there is none. It is a hash of hashes.lua; whoever changes it calls `save`.
local function load(id)
  local key = KEY_MESSAGE .. id
  local f = read_fields(key)
  if not f.state then return nil end
  local m = {
    id = id, key = key, f = f, state = f.state, lane = f.lane, n = tonumber(f.n or 0),
    resends = tonumber(f.resends or 0), expires = tonumber(f.expires or 0), hold_on_doubt = f.hold,
    fallback_reason = f.otherwise, published = tonumber(f.published or 0), overtaken = f.overtaken,
    doubt = f.doubt, template = f.template, phone_hash = f.who, trace = f.trace, stop = f.stop,
    campaign = f.campaign or '', account = f.account or 'default', stored_state = f.state,
  }
  m.stored_index = index_of(m)
  return m
end

-- Return whether an act may move a message on. One in a state that only a newer release knows is
-- left to that.
local function is_live(m)
  return NEXT[m.state] and not FINAL[m.state]
end

-- Let a message's timer run out at a time; false takes it away.
local function timer(m, at)
  m.timer = at
end

-- Change the state, only along a way of the table; fields and their values change with it.
local function move(m, to, ...)
  if not (NEXT[m.state] or ''):find(' ' .. to .. ' ', 1, true) then
    error('smsq: no way from ' .. m.state .. ' to ' .. to)
  end
  if m.state == 'held' then score(KEY_HELD, m.id) end
  if m.state == 'deferred' then score(KEY_WAITING .. m.template, m.id) end
  m.state = to
  set(m, 'state', to, ...)
  if m.f.test then
    count_since_0_3('test_messages:' .. m.lane .. ':' .. to)
  else
    count('messages:' .. m.lane .. ':' .. to)
  end
end

-- Wait, but never past the ttl's end.
local function defer(m, wait_ms)
  if m.state ~= 'deferred' then move(m, 'deferred') end
  set(m, 'waits', wait_ms)
  timer(m, math.min(now + wait_ms, m.expires))
end

-- Wait until the template's pause is over.
local function wait_for_template(m)
  defer(m, m.expires - now)
  score(KEY_WAITING .. m.template, m.id, now)
end

local function save_timer(m)
  local index = index_of(m)
  if m.stored_index and m.stored_index ~= index then score(m.stored_index, m.id) end
  if m.timer ~= nil then
    score(KEY_TIMERS, m.id, m.timer)
    if index then score(index, m.id, m.timer) end
  end
  m.stored_index, m.timer = index, nil
end

-- Write what an act has changed of a message.
local function save(m)
  if m.is_anew then
    write_anew(m)
    redis.call('PEXPIRE', m.key, RETENTION)
    delete(KEY_PAYLOAD .. m.id)
  else
    write(m)
  end
  save_timer(m)
  if m.state ~= m.stored_state then
    if not FINAL[m.stored_state] then add(KEY_LIVE, m.lane .. ':' .. m.stored_state, -1) end
    if not FINAL[m.state] then add(KEY_LIVE, m.lane .. ':' .. m.state, 1) end
    m.stored_state = m.state
  end
end
