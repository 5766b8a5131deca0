-- Enter messages in the ledger: the write that makes them ours.
--
-- ARGV[1] ms until the clock first asks after a wake-up
-- ARGV[2] ms for which a final message is kept
-- ARGV[3] ms for which an idempotency key is kept
-- ARGV[4] messages as JSON, each an array:
--   id, lane, payload ("" where it is refused), ttl ms, send at (Unix ms, 0 for now),
--   idempotency key ("" where it has none), why it is refused ("" where it is not),
--   {field, value, ...}: template, phone, who, reference, ...
-- Returns the messages' states. "queued" asks the caller to publish its wake-up.
--
-- One act, because a message without its timer would be lost, and two callers with one
-- idempotency key must not both win. A second call with the same id (a client that reconnects
-- sends its command again) changes nothing.

local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local ask_ms, retention, key_ttl = tonumber(ARGV[1]), ARGV[2], ARGV[3]

local function enter(id, lane, payload, ttl, send_at, key, refusal, fields)
  local message = 'smsq:m:' .. id
  local state = redis.call('HGET', message, 'state')
  if state then return state end

  local due = math.max(now, send_at)
  local expires = due + ttl
  local function add(...)
    for _, value in ipairs({...}) do fields[#fields + 1] = value end
  end

  local holder = false
  if key ~= '' and not redis.call('SET', key, id, 'NX', 'PX', key_ttl) then
    holder = redis.call('GET', key)
  end

  if refusal ~= '' then
    state = 'failed'
    add('reason', 'local:invalid', 'detail', refusal, 'finished', now)
  elseif holder then
    state = 'duplicate'
    add('reason', 'duplicate:' .. holder, 'finished', now)
  else
    state = due > now and 'deferred' or 'queued'
    add('expires', expires, 'published', now)
    if due > now then add('due', due) end
  end

  redis.call('HSET', message, 'state', state, 'lane', lane, 'enqueued', now, unpack(fields))
  redis.call('HINCRBY', 'smsq:counters', 'messages:' .. lane .. ':' .. state, 1)
  if state == 'failed' or state == 'duplicate' then
    redis.call('PEXPIRE', message, retention)
    -- Who is to be told, a worker knows.
    redis.call('ZADD', 'smsq:notices', now, 'new:' .. state .. ':' .. id)
  else
    redis.call('SET', 'smsq:p:' .. id, payload)
    redis.call('HINCRBY', 'smsq:live', lane .. ':' .. state, 1)
    local asked = state == 'deferred' and due or math.min(now + ask_ms, expires)
    redis.call('ZADD', 'smsq:timers', asked, id)
    -- So that it does not wait behind a campaign that is scheduled for the same moment.
    if state == 'deferred' and lane ~= 'bulk' then
      redis.call('ZADD', 'smsq:timers:' .. lane, asked, id)
    end
  end
  return state
end

local states = {}
for i, one in ipairs(cjson.decode(ARGV[4])) do states[i] = enter(unpack(one)) end
return states
