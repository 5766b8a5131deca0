-- Record the result of a callback's dispatch.
-- needs: receivers
--
-- ARGV[1] name
-- ARGV[2] told; failed: the endpoint; unreached: no connection to its host came about; refused: for
--   good, or it can never be sent; hindered: by what is not the endpoint's; crowded: it was not tried
-- ARGV[3] error  ARGV[4] ms to wait before the next try  ARGV[5] ms after which it is given up
-- Returns {events, 'told', 'waits', 'dead' or 'gone'}
--
-- An endpoint that failed is in backoff: what else waits for it is not tried meanwhile, so that one
-- that is down costs a try now and then and not one for each callback.

local name, result, wait = ARGV[1], ARGV[2], tonumber(ARGV[4])
if not redis.call('ZSCORE', KEY_NOTICES, name) then return {events, 'gone'} end
local kind, key = callback_of(name)
local to = receivers_of(kind, redis.call('HGET', key, 'outcome'))
if result == 'told' then
  recovered(to)
  forget(name)
  redis.call('HINCRBY', KEY_COUNTERS, 'notices:' .. kind .. ':told', 1)
  return {events, 'told'}
end
redis.call('HDEL', key, kind .. ':taken')
if result == 'crowded' then
  redis.call('HINCRBY', key, kind .. ':tries', -1)
  redis.call('ZADD', KEY_NOTICES, now + wait, name)
  return {events, 'waits'}
end
redis.call('HSET', key, kind .. ':error', ARGV[3])
if result == 'failed' then back_off(to[1], now + wait) end
if result == 'unreached' then back_off(to[2], now + wait) end
local over = tonumber(redis.call('HGET', key, 'since')) + tonumber(ARGV[5])
if result ~= 'refused' and now + wait < over then
  redis.call('ZADD', KEY_NOTICES, now + wait, name)
  redis.call('HINCRBY', KEY_COUNTERS, 'notices:' .. kind .. ':failed', 1)
  return {events, 'waits'}
end
redis.call('ZREM', KEY_NOTICES, name)
redis.call('ZADD', KEY_DEAD_NOTICES, now, name)
redis.call('HINCRBY', KEY_COUNTERS, 'notices:' .. kind .. ':dead', 1)
-- URLs are callers' own, and without end: of one that nobody asks any more nothing must stay.
if kind == 'returnurl' then recovered(to) end
tell('gave up telling ' .. name .. ': ' .. ARGV[3])
for _, old in ipairs(redis.call('ZRANGEBYSCORE', KEY_DEAD_NOTICES, '-inf', now - RETENTION)) do
  forget(old)
end
return {events, 'dead'}
