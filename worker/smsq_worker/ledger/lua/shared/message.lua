-- A message: read, moved from state to state, put under a timer, saved.
-- needs: write_behind campaigns days

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
      stat = n .. ':stat', account = n .. ':account', denied = n .. ':denied'}
    names[n] = fields
  end
  return fields
end

-- Return whether a message certainly was not sent, or not by its attempts from one on. They say so and
-- never its reason: an attempt that was refused may follow one in doubt. One without an outcome is in
-- doubt; one of which nothing is left was not sent. The attempt 0 stands for those that a failover undid.
local function certainly_not_sent(m, from)
  for n = from or 0, m.n do
    local at, outcome = m.f[attempt(n).at], m.f[attempt(n).outcome]
    if (at or outcome) and outcome ~= 'not_sent' and outcome ~= 'refused' then return false end
  end
  return true
end

local function waits_in_doubt(m)
  if m.n == 0 and not m.f['0:outcome'] then return false end
  return (m.state == 'queued' or m.state == 'deferred') and not certainly_not_sent(m)
end

local function failed_for(m)
  return m.state == 'failed' and m.f.reason or nil
end

-- Note as what its campaign counts it.
local function note_counted(m)
  m.was_in_doubt, m.had_failed_for = waits_in_doubt(m), failed_for(m)
end

local in_campaigns = {}

-- Count that a message came to an end, or from one to another, or has another reason. How many were
-- accepted and then delivered is what remains of the ends.
local function count_end(m, was, reason)
  local one = in_campaigns[m.campaign]
  if not one then
    one = {sums = {}, reasons = {}, ends = {}}
    in_campaigns[m.campaign] = one
    count_at_end(in_campaigns, m.campaign, 'a campaign', count_in_campaign)
  end
  if was then
    local before = was:sub(#m.lane + 2)
    add_up(one.ends, m.lane, FINAL[before] and 0 or 1)
    if before ~= 'accepted' or m.state ~= 'delivered' then add_up(one.sums, was .. '>' .. m.state, 1) end
  end
  if m.was_in_doubt then add_up(one.sums, 'doubted:' .. m.lane, -1) end
  if reason ~= m.had_failed_for then
    if m.had_failed_for then add_up(one.reasons, m.had_failed_for, -1) end
    if reason then add_up(one.reasons, reason, 1) end
  end
end

-- Count in its campaign what an act has made of a message: from which "<lane>:<state>" to which. All of
-- the act is written when it ends.
local function count_change(m, was, is)
  local in_doubt, reason = waits_in_doubt(m), failed_for(m)
  if FINAL[m.state] then
    if was ~= is or reason ~= m.had_failed_for then count_end(m, was, reason) end
  else
    local key = KEY_CAMPAIGN .. m.campaign
    if was ~= is then add(key, was .. '>' .. m.state, 1) end
    if in_doubt ~= m.was_in_doubt then add(key, 'doubted:' .. m.lane, in_doubt and 1 or -1) end
  end
  m.was_in_doubt, m.had_failed_for = in_doubt, reason
end

-- Return what stands behind the names of keys and scopes of the account of an attempt, see rate.lua.
local function account_of_attempt(f, n)
  local account = f[attempt(n).account]
  return account and '@' .. account or ''
end

-- Read a message; nil where there is none. It is a hash of hashes.lua; whoever changes it calls `save`.
local function load(id)
  local key = KEY_MESSAGE .. id
  local f = read_fields(key)
  if not f.state then return nil end
  local n = tonumber(f.n or 0)
  local m = {
    id = id, key = key, f = f, state = f.state, lane = f.lane, n = n,
    resends = tonumber(f.resends or 0), expires = tonumber(f.expires or 0), hold_on_doubt = f.hold,
    fallback_reason = f.otherwise, published = tonumber(f.published or 0), overtaken = f.overtaken,
    doubt = f.doubt, template = f.template, phone_hash = f.who, trace = f.trace, stop = f.stop,
    campaign = f.campaign, account = f.account or 'default', stored_state = f.state,
  }
  m.of = n > 0 and account_of_attempt(f, n) or ''
  m.stored_index, m.stored_of = index_of(m), m.of
  if f.campaign then note_counted(m) end
  note_for_day(m)
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
  if m.state == 'deferred' then
    score(KEY_WAITING .. m.template, m.id)
    if m.campaign then score(KEY_CAMPAIGN_ROOM .. m.campaign, m.id) end
  end
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

local function wait_for_template(m)
  defer(m, m.expires - now)
  score(KEY_WAITING .. m.template, m.id, now)
end

-- Wait until its campaign goes on, or has a slot for it: the first that came goes first.
local rooms = {}
local function wait_for_campaign(m)
  defer(m, m.expires - now)
  score(KEY_CAMPAIGN_ROOM .. m.campaign, m.id, m.f.enqueued)
  if not rooms[m.campaign] then
    rooms[m.campaign] = true
    redis.call('SADD', KEY_CAMPAIGN_ROOMS, m.campaign)
  end
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

-- Keep the payload of a message that may be sent again (`kept`, see ends.lua). Returns its key where it is
-- to be erased.
local function end_payload(m)
  local name = KEY_PAYLOAD .. m.id
  if m.kept == 'before' then return nil end
  local payload = m.kept and redis.call('GET', name)
  if not payload or payload:sub(-1) ~= ']' then return name end
  redis.call('SET', name, payload:sub(1, -2) .. ',' .. m.kept, 'PX', REDO)
end

-- Count where a message is under way. At the account without a key that is not counted: it is what
-- remains.
local UNDER_WAY = {sending = 1, accepted = 1}
local function count_at_accounts(m)
  if UNDER_WAY[m.stored_state] and m.stored_of ~= '' then
    add(KEY_LIVE .. m.stored_of, m.stored_state, -1)
  end
  if UNDER_WAY[m.state] and m.of ~= '' then add(KEY_LIVE .. m.of, m.state, 1) end
  m.stored_of = m.of
end

-- Write what an act has changed of a message.
local function save(m)
  count_for_day(m)
  if m.is_anew then
    write_anew(m, end_payload(m))
    redis.call('PEXPIRE', m.key, RETENTION)
  else
    write(m)
  end
  save_timer(m)
  if m.of ~= '' or m.stored_of ~= '' then count_at_accounts(m) end
  local was, is
  if m.state ~= m.stored_state then
    was, is = m.lane .. ':' .. m.stored_state, m.lane .. ':' .. m.state
    if not FINAL[m.stored_state] then add(KEY_LIVE, was, -1) end
    if not FINAL[m.state] then add(KEY_LIVE, is, 1) end
    m.stored_state = m.state
  end
  if m.campaign then count_change(m, was, is) end
end
