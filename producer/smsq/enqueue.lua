-- Write messages to the ledger; from then on none is lost. Comes after wakeup.lua,
-- cancelling.lua and key_holders.lua.
-- `enqueue` is called as a function or as a script: functions.py.
--
-- ARGV[1] ms until the scheduler first checks that a wake-up was not lost
-- ARGV[2] ms for which a final message is kept
-- ARGV[3] ms for which an idempotency key is kept
-- ARGV[4] 'stop': at a conflict of keys, the messages after it are not entered; 'index': list them
-- ARGV[5] messages as JSON, each an array:
--   id, lane, payload ("" where it is refused), ttl ms, send at (Unix ms, 0 for now),
--   idempotency key as {namespace, digest, fingerprint} ({} where it has none),
--   the reason for which it is refused ("" where it is not),
--   {field, value, ...}: template, phone, who (the phone hash), reference, ...
--   and of one in a campaign: its name, and of the first that names it: who sends it
-- Where broker and ledger are one Redis, the wake-ups of those that come out queued are pushed, too:
-- ARGV[6] 'one'  ARGV[7] the queue  ARGV[8] the wake-up of the only message
-- ARGV[6] 'many'  ARGV[7..] for each lane: its name, its queue, the envelope of a batch, with marks
-- Returns for each message, in order: its state; "duplicate <id>" with the id of the message that
-- holds its key; or "conflict <id>" where that one, or the one that has this id, has another number
-- or template: then nothing is written of it. Without ARGV[6] the caller publishes the wake-up for
-- "queued". Or {"barred <campaign>"}, where one was cancelled, and {"crowded <campaign>"}, where it
-- would be one too many, or {"greedy <campaign>"}, one too many of its caller's: then nothing is
-- written at all.
--
-- One act, because a message without its timer would be lost, one without its wake-up would wait for
-- its timer, and two callers with one idempotency key must not both win. A second call with the same
-- id (a client that reconnects sends its command again) changes nothing, and wakes up nobody.

-- Of the call. A library's locals outlive it, so `enqueue` sets each anew.
local now, ask_ms, retention, key_ttl
local entered  -- lane -> ids of messages that are new here, and queued
local listed, last_end  -- ids of messages that are new here, packed; when the last of them is final
local joined  -- campaign -> what is known of it, and what is to be counted

local INDEX = {otp = KEY_OTP_TIMERS, notice = KEY_NOTICE_TIMERS}

-- End the holder of a key, so that another message can take it: where its campaign was cancelled before
-- it was sent, and the sweep has not come to it yet. Returns whether that was so.
local function end_holder(holder)
  local campaign = redis.call('HGET', KEY_MESSAGE .. holder, 'campaign')
  if not campaign or redis.call('HGET', KEY_CAMPAIGN .. campaign, 'stop') ~= 'cancelled' then
    return false
  end
  local f = fields_of(holder)
  if not WAITING[f.state] or not certainly_not_sent(f) then return false end
  end_cancelled(holder, f, now, retention)
  return true
end

-- Take a key; where a message holds it return that one's id, and whether it conflicts.
local function take(id, space, digest, fingerprint)
  local key, holder = name_of(space, digest), holder_of(space, digest)
  if holder and not end_holder(holder) then
    local taken_for = redis.call('GET', key .. ':fp')
    return holder, taken_for and taken_for ~= fingerprint
  end
  redis.call('SET', key, id, 'PX', key_ttl)
  -- Release 0.2.0 noted none, and `smsq redo` has no other.
  if fingerprint ~= '' then redis.call('SET', key .. ':fp', fingerprint, 'PX', key_ttl) end
  local old = name_of('', digest)
  if space ~= '' and redis.call('SET', old, id, 'NX', 'PX', key_ttl) then
    redis.call('SET', old .. ':fp', marked(space), 'PX', key_ttl)
  end
  return false
end

local CAMPAIGNS_AT_MOST = 10000
-- Of one of the relay's callers, who are strangers to each other.
local CAMPAIGNS_OF_CALLER = 1000

-- Count a campaign that a caller begins, `known` being the number of all. Returns whether it may. Whose
-- it is stands beside the counts, because a record that was evicted does not tell it.
local function count_caller(name, by, known)
  local caller, of = by:match('^relay:(.*)$'), 'of ' .. name
  if not caller then return true end
  if known == 0 then redis.call('DEL', KEY_CAMPAIGN_CALLERS) end  -- KEY_CAMPAIGNS may have been evicted.
  local n, before = unpack(redis.call('HMGET', KEY_CAMPAIGN_CALLERS, caller, of))
  if before == caller then return true end
  if tonumber(n or 0) >= CAMPAIGNS_OF_CALLER then return false end
  if before then redis.call('HINCRBY', KEY_CAMPAIGN_CALLERS, before, -1) end
  redis.call('HINCRBY', KEY_CAMPAIGN_CALLERS, caller, 1)
  redis.call('HSET', KEY_CAMPAIGN_CALLERS, of, caller)
  return true
end

-- Look up a campaign, or begin its record. Returns why nothing may be entered, if that is so.
local function join(name, by, lane, template)
  local key = KEY_CAMPAIGN .. name
  local f = redis.call('HMGET', key, 'at', 'lane', 'template', 'ended', 'stop')
  if f[5] == 'cancelled' then return 'barred ' .. name end
  local one = {key = key, lane = f[2], template = f[3], ended = f[4], sums = {}}
  if not f[1] then
    local known = redis.call('ZCARD', KEY_CAMPAIGNS)
    if known >= CAMPAIGNS_AT_MOST then return 'crowded ' .. name end
    if not count_caller(name, by, known) then return 'greedy ' .. name end
    -- Older workers would not count it, and go on after a cancel.
    shut_out_older_workers()
    one.lane, one.template, one.ended = lane, template, now
    redis.call('HSET', key, 'at', now, 'by', by, 'lane', lane, 'template', template, 'ended', now)
    redis.call('ZADD', KEY_CAMPAIGNS, now + CAMPAIGN_QUIET_MS, name)
  end
  joined[name] = one
end

local function template_of(fields)
  for i = 1, #fields, 2 do
    if fields[i] == 'template' then return fields[i + 1] end
  end
  return ''
end

-- Join the campaigns of messages. Returns as `join`.
local function join_all(messages)
  for _, one in ipairs(messages) do
    local name = one[9]
    if name and not joined[name] then
      local why_not = join(name, one[10], one[2], template_of(one[8]))
      if why_not then return why_not end
    end
  end
end

local function note_several(one, field)
  if one[field] ~= '*' then redis.call('HSET', one.key, field, '*') end
  return '*'
end

-- Count a message in its campaign; where its lane or template differs from those before, say so.
local function count_joined(campaign, state, lane, template)
  local one = joined[campaign]
  local field = lane .. ':>' .. state
  one.sums[field] = (one.sums[field] or 0) + 1
  one.has_live = one.has_live or state == 'queued' or state == 'deferred'
  if one.lane ~= lane then one.lane = note_several(one, 'lane') end
  if one.template ~= template then one.template = note_several(one, 'template') end
end

local function write_joined()
  for name, one in pairs(joined) do
    for field, n in pairs(one.sums) do redis.call('HINCRBY', one.key, field, n) end
    if one.has_live and one.ended then
      redis.call('HDEL', one.key, 'ended', 'told')
      redis.call('ZADD', KEY_CAMPAIGNS, 'inf', name)
    end
  end
end

-- Return whether a known id's message is another than the one that comes with it. Of the number, the
-- ledger has only its ends (in a folded message without stars); of one that was refused, nothing.
local function is_another(known, fields)
  for i = 1, #fields, 2 do
    local name, value = fields[i], fields[i + 1]
    if name == 'template' and known.template and known.template ~= value then return true end
    if name == 'phone' then
      local phone = known.phone or known.fold and known.fold:match('^%S+ %S* %S* %S+ %S+ (%S*)') or ''
      if phone ~= '' and phone:gsub('%*', '') ~= value:gsub('%*', '') then return true end
    end
  end
  return false
end

-- Return an id as lists have it: of a UUID, which nearly all are, 17 bytes instead of 36.
local function packed(id)
  local a, b, c, d, e, f =
    id:match('^(%x%x%x%x%x%x%x%x)%-(%x%x%x%x)%-(%x%x%x%x)%-(%x%x%x%x)%-(%x%x%x%x)(%x%x%x%x%x%x%x%x)$')
  if not a or id:find('%u') then return id end
  return struct.pack('>BI4I2I2I2I2I4', 0, tonumber(a, 16), tonumber(b, 16), tonumber(c, 16),
    tonumber(d, 16), tonumber(e, 16), tonumber(f, 16))
end

local function enter(id, lane, payload, ttl, send_at, key, refusal, fields, campaign)
  local message = KEY_MESSAGE .. id
  local f = redis.call('HMGET', message, 'state', 'reason', 'template', 'phone', 'fold')
  local state, reason = f[1], f[2]
  if state and is_another({template = f[3], phone = f[4], fold = f[5]}, fields) then
    return 'conflict ' .. id
  end
  if state == 'duplicate' then return (reason:gsub('^duplicate:', 'duplicate ')) end
  if state then return state end

  local due = math.max(now, send_at)
  local expires = due + ttl
  local function add(...)
    for _, value in ipairs({...}) do fields[#fields + 1] = value end
  end

  local holder, conflicts = false, false
  if key[1] then holder, conflicts = take(id, unpack(key)) end
  if conflicts then return 'conflict ' .. holder end

  if refusal ~= '' then
    state = 'failed'
    add('reason', refusal, 'finished', now)
  elseif holder then
    state = 'duplicate'
    add('reason', 'duplicate:' .. holder, 'finished', now)
  else
    state = due > now and 'deferred' or 'queued'
    add('expires', expires, 'published', now)
    if due > now then add('due', due) end
    -- Its end may free the key.
    if key[1] then add('key', name_of(key[1], key[2]):sub(#KEY_IDEMPOTENCY + 1)) end
  end

  redis.call('HSET', message, 'state', state, 'lane', lane, 'enqueued', now, unpack(fields))
  listed[#listed + 1], last_end = packed(id), math.max(last_end, expires)
  redis.call('HINCRBY', KEY_COUNTERS, 'messages:' .. lane .. ':' .. state, 1)
  if campaign then count_joined(campaign, state, lane, template_of(fields)) end
  if state == 'failed' or state == 'duplicate' then
    redis.call('PEXPIRE', message, retention)
    -- Only a worker knows its endpoints.
    redis.call('ZADD', KEY_NOTICES, now, 'new:' .. state .. ':' .. id)
  else
    redis.call('SET', KEY_PAYLOAD .. id, payload)
    -- The more wait before it, the later it is asked whether its wake-up was lost: 1 ms for each, as
    -- to ask a million that only wait costs their Redis what otps need.
    local waiting = redis.call('HINCRBY', KEY_LIVE, lane .. ':' .. state, 1)
    local asked = state == 'deferred' and due or math.min(now + ask_ms + waiting, expires)
    redis.call('ZADD', KEY_TIMERS, asked, id)
    -- So that it does not wait behind a campaign that is scheduled for the same moment.
    if state == 'deferred' and INDEX[lane] then redis.call('ZADD', INDEX[lane], asked, id) end
    if state == 'queued' then
      entered[lane] = entered[lane] or {}
      table.insert(entered[lane], id)
    end
  end
  return holder and state .. ' ' .. holder or state
end

local HOUR = 3600000
local INDEX_KEPT = 800 * 24 * HOUR  -- the longest wait, ttl and retention

-- List the new messages by the hour of their entry, for `smsq list`. A list is kept until its messages
-- are forgotten, and as long again: only workers know how long they wait for a report.
local function index()
  if not listed[1] then return end
  local hour = math.floor(now / HOUR)
  local list = KEY_IDS_OF .. hour
  -- A user of an older list of rights may not write it, and the messages are in.
  local length = redis.pcall('RPUSH', list, unpack(listed))
  if type(length) ~= 'number' then return end
  redis.call('PEXPIREAT', list, string.format('%.0f', last_end + 2 * retention), 'GT')
  if length == #listed then
    redis.call('PEXPIREAT', list, string.format('%.0f', last_end + 2 * retention))
    redis.call('ZADD', KEY_IDS, hour, hour)
    redis.call('ZREMRANGEBYSCORE', KEY_IDS, '-inf', hour - INDEX_KEPT / HOUR)
  end
end

-- What its queue does not take is the scheduler's at once, as in unpublished.lua.
local function push(queue, wakeup, ids)
  if is_pushed(queue, wakeup) then return end
  for _, id in ipairs(ids) do
    redis.call('HSET', KEY_MESSAGE .. id, 'published', 0)
    redis.call('ZADD', KEY_TIMERS, 0, id)
  end
end

local function enqueue(_, ARGV)
  local clock = redis.call('TIME')
  now = clock[1] * 1000 + math.floor(clock[2] / 1000)
  ask_ms, retention, key_ttl = tonumber(ARGV[1]), ARGV[2], ARGV[3]
  entered, joined, listed, last_end = {}, {}, {}, 0

  local messages = cjson.decode(ARGV[5])
  local why_not = join_all(messages)
  if why_not then return {why_not} end
  local answers, stops = {}, ARGV[4]:find('stop', 1, true)
  for i, one in ipairs(messages) do
    answers[i] = enter(unpack(one))
    if stops and answers[i]:find('^conflict ') then break end
  end
  write_joined()

  if ARGV[4]:find('index', 1, true) then index() end

  if ARGV[6] == 'one' then
    local _, ids = next(entered)
    if ids then push(ARGV[7], ARGV[8], ids) end
  elseif ARGV[6] == 'many' then
    for i = 7, #ARGV, 3 do
      local ids = entered[ARGV[i]]
      if ids then push(ARGV[i + 1], wakeup_of_many(ARGV[i + 2], ids), ids) end
    end
  end
  return answers
end
