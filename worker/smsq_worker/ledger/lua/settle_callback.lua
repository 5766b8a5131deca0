-- Record the result of a callback's dispatch.
-- needs: receivers
--
-- ARGV[1] name  ARGV[2] 'told', 'failed' or 'refused', which is for good  ARGV[3] error
-- ARGV[4] ms to wait before the next try  ARGV[5] ms after which it is given up
-- Returns {events, 'told', 'waits', 'dead' or 'gone'}
--
-- An endpoint that failed is in backoff: what else waits for it is not tried meanwhile, so that one
-- that is down costs a try now and then and not one for each callback.

local name, wait = ARGV[1], tonumber(ARGV[4])
if not redis.call('ZSCORE', KEY_NOTICES, name) then return {events, 'gone'} end
local kind, key = callback_of(name)
local to = receiver(kind, redis.call('HGET', key, 'outcome'))
if ARGV[2] == 'told' then
  redis.call('HDEL', KEY_RECEIVERS, to)
  forget(name)
  redis.call('HINCRBY', KEY_COUNTERS, 'notices:' .. kind .. ':told', 1)
  return {events, 'told'}
end
redis.call('HDEL', key, kind .. ':taken')
redis.call('HSET', key, kind .. ':error', ARGV[3])
local failed = ARGV[2] == 'failed'
if failed then back_off(to, now + wait) end
if failed and now + wait < tonumber(redis.call('HGET', key, 'since')) + tonumber(ARGV[5]) then
  redis.call('ZADD', KEY_NOTICES, now + wait, name)
  redis.call('HINCRBY', KEY_COUNTERS, 'notices:' .. kind .. ':failed', 1)
  return {events, 'waits'}
end
redis.call('ZREM', KEY_NOTICES, name)
redis.call('ZADD', KEY_DEAD_NOTICES, now, name)
redis.call('HINCRBY', KEY_COUNTERS, 'notices:' .. kind .. ':dead', 1)
tell('gave up telling ' .. name .. ': ' .. ARGV[3])
for _, old in ipairs(redis.call('ZRANGEBYSCORE', KEY_DEAD_NOTICES, '-inf', now - RETENTION)) do
  forget(old)
end
return {events, 'dead'}
