-- Cancel one message, whatever state it is in. For the acts of producers; those of workers end it with
-- shared/ends.lua, and tests hold the two to agree.

local function certainly_not_sent(f)
  for n = 0, tonumber(f.n or 0) do
    local at, outcome = f[n .. ':at'], f[n .. ':outcome']
    if (at or outcome) and outcome ~= 'not_sent' and outcome ~= 'refused' then return false end
  end
  return true
end

local function fields_of(id)
  local stored, f = redis.call('HGETALL', KEY_MESSAGE .. id), {}
  for i = 1, #stored, 2 do f[stored[i]] = stored[i + 1] end
  return f
end

-- Count its end in its campaign.
local function leave_campaign(id, f, to, is_certain, now)
  redis.call('ZREM', KEY_CAMPAIGN_ROOM .. f.campaign, id)
  local in_doubt = not is_certain and f.state ~= 'held'
  count_in_campaign(f.campaign, {
    sums = {[f.lane .. ':' .. f.state .. '>' .. to] = 1, ['doubted:' .. f.lane] = in_doubt and -1 or 0},
    reasons = {['local:cancelled'] = is_certain and 0 or 1}, ends = {[f.lane] = 1}}, now)
end

-- End a message that waits: cancelled if it certainly was not sent. Only a worker knows the endpoints of
-- its callbacks, and `trace` stays for them.
local function end_cancelled(id, f, now, retention)
  local message, is_certain = KEY_MESSAGE .. id, certainly_not_sent(f)
  local to = is_certain and 'cancelled' or 'failed'
  local freed = is_certain and f.key and free_key(id, f.key)
  redis.call('HDEL', message, 'reason', 'expires', 'hold', 'resends', 'doubt', 'otherwise', 'published',
    'overtaken', 'by', 'who', 'due', 'waits', 'stop', 'turn', 'key', 'refused', 'unsent')
  redis.call('HSET', message, 'state', to, 'finished', now)
  if freed then redis.call('HSET', message, 'freed', 1) end
  if not is_certain then redis.call('HSET', message, 'reason', 'local:cancelled') end
  redis.call('PEXPIRE', message, retention)
  redis.call('DEL', KEY_PAYLOAD .. id)
  for _, timers in ipairs({KEY_TIMERS, KEY_OTP_TIMERS, KEY_NOTICE_TIMERS}) do
    redis.call('ZREM', timers, id)
  end
  if f.state == 'held' then redis.call('ZREM', KEY_HELD, id) end
  if f.state == 'deferred' then redis.call('ZREM', KEY_WAITING .. f.template, id) end
  if f.campaign then leave_campaign(id, f, to, is_certain, now) end
  redis.call('HINCRBY', KEY_COUNTERS, 'messages:' .. f.lane .. ':' .. to, 1)
  redis.call('HINCRBY', KEY_LIVE, f.lane .. ':' .. f.state, -1)
  redis.call('ZADD', KEY_NOTICES, now, 'new:' .. to .. ':' .. id)
  return to
end

-- Forbid to send it again. Releases that know no `stop` go by the ttl, which is over.
local function forbid_resends(id, now)
  redis.call('HSET', KEY_MESSAGE .. id, 'stop', 'cancelled', 'expires', now)
end

-- Workers of releases that would send it all the same are shut out, see ledger/migrations.py.
local function shut_out_older_workers()
  if tonumber(redis.call('HGET', KEY_SCHEMA, 'readable_by') or 0) >= 3 then return end
  -- The version is absent where no worker has started yet: then the first migrates.
  redis.call('HSETNX', KEY_SCHEMA, 'version', 1)
  redis.call('HSET', KEY_SCHEMA, 'readable_by', 3)
end

local WAITING = {queued = true, deferred = true, held = true}

-- Returns an answer, the state from now on, its reason or '', and whether this changed it. The answers:
--   cancelled  it certainly was not sent, and will not be
--   under way  an attempt is being made, and decides; it is not tried again
--   too late   it is what its state says, and is not sent again
--   unknown
local function cancel_message(id, now, retention)
  local f = fields_of(id)
  if not f.state then return 'unknown', '', '', false end
  local state, changed = f.state, false
  if WAITING[state] then
    shut_out_older_workers()
    state = end_cancelled(id, f, now, retention)
    f.reason = state == 'failed' and 'local:cancelled' or nil
    changed = true
  elseif state == 'sending' or state == 'accepted' then
    shut_out_older_workers()
    if f.stop ~= 'cancelled' then forbid_resends(id, now) end
    changed = f.stop ~= 'cancelled'
  end
  -- A write, so that WAIT waits for what an answer before this one wrote.
  if not changed then redis.call('HSET', KEY_MESSAGE .. id, 'state', state) end
  local answer = state == 'cancelled' and 'cancelled' or state == 'sending' and 'under way' or 'too late'
  return answer, state, f.reason or '', changed
end
