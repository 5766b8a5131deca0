-- May this message go now? If so it is `sending` from here on, under a lease.
--
-- ARGV[1] id  ARGV[2] ms of the lease
-- Returns {'go', attempt, payload, template}, {'unknown'}, {'copy', state} or {'expired', state}
--
-- One act, because of two copies of one wake-up only one may go, and because a worker that dies
-- after it must leave a lease behind.

local m = load(ARGV[1])
if not m then return {'unknown'} end
if m.state ~= 'queued' then return {'copy', m.state} end
if now >= m.expires then
  expire(m)
  return {'expired', m.state}
end
local payload = redis.call('GET', 'smsq:p:' .. m.id)
if not payload then
  -- A server with an eviction policy took it.
  finish(m, 'failed', 'local:lost')
  return {'copy', m.state}
end
m.n = m.n + 1
move(m, 'sending')
set(m, 'n', m.n, m.n .. ':at', now)
timer(m, now + tonumber(ARGV[2]))
if m.doubt then count('possible_duplicates') end
if m.published > tonumber(redis.call('HGET', LANES, m.lane) or 0) then
  redis.call('HSET', LANES, m.lane, m.published)
end
return {'go', m.n, payload, redis.call('HGET', m.key, 'template')}
