-- Enter a message in the ledger: the write that makes it ours.
--
-- KEYS[1] message  KEYS[2] payload  KEYS[3] timers  KEYS[4] counters  KEYS[5] idempotency key
-- KEYS[6] live counts
-- ARGV[1] id            ARGV[2] lane        ARGV[3] payload, "" where it is refused
-- ARGV[4] ttl ms        ARGV[5] send at, Unix ms, 0 for now
-- ARGV[6] ms until the clock first asks after its wake-up
-- ARGV[7] ms for which a final message is kept
-- ARGV[8] ms for which the key is kept, 0 where the message has none
-- ARGV[9] why it is refused, "" where it is not
-- ARGV[10...] more fields and values: template, phone, who, reference, notify, hold
-- Returns the message's state. "queued" asks the caller to publish its wake-up.
--
-- One act, because a message without its timer would be lost, and two callers with one
-- idempotency key must not both win. A second call with the same id (a client that reconnects
-- sends its command again) changes nothing.

local state = redis.call('HGET', KEYS[1], 'state')
if state then return state end

local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local due = math.max(now, tonumber(ARGV[5]))
local expires = due + tonumber(ARGV[4])

local fields = {'lane', ARGV[2], 'enqueued', now, unpack(ARGV, 10)}
local function add(...)
  for _, value in ipairs({...}) do fields[#fields + 1] = value end
end

local holder = false
if tonumber(ARGV[8]) > 0 and ARGV[9] == ''
    and not redis.call('SET', KEYS[5], ARGV[1], 'NX', 'PX', ARGV[8]) then
  holder = redis.call('GET', KEYS[5])
end

if ARGV[9] ~= '' then
  state = 'failed'
  add('reason', 'local:invalid', 'detail', ARGV[9], 'finished', now)
elseif holder then
  state = 'duplicate'
  add('reason', 'duplicate:' .. holder, 'finished', now)
else
  state = due > now and 'deferred' or 'queued'
  add('expires', expires, 'published', now)
end

redis.call('HSET', KEYS[1], 'state', state, unpack(fields))
redis.call('HINCRBY', KEYS[4], 'messages:' .. ARGV[2] .. ':' .. state, 1)
if state == 'failed' or state == 'duplicate' then
  redis.call('PEXPIRE', KEYS[1], ARGV[7])
else
  redis.call('SET', KEYS[2], ARGV[3])
  redis.call('HINCRBY', KEYS[6], ARGV[2] .. ':' .. state, 1)
  local asked = state == 'deferred' and due or math.min(now + tonumber(ARGV[6]), expires)
  redis.call('ZADD', KEYS[3], asked, ARGV[1])
end
return state
