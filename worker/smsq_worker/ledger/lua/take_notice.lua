-- May this outcome be told now? If so its receiver is asked under a lease.
--
-- ARGV[1] name  ARGV[2] ms of the lease
-- Returns {events, 'go', outcome, how often its receiver has failed in a row}, or {events, why}:
--   gone: it has been told or given up; copy: another worker is telling it;
--   wait: its receiver failed a moment ago; bad: nothing can be made of it
--
-- One act, because of two copies of one wake-up only one may go.

local name, lease = ARGV[1], tonumber(ARGV[2])
if not redis.call('ZSCORE', NOTICES, name) then return {events, 'gone'} end
local kind, key = outcome_of(name)
local function read()
  local f = redis.call('HMGET', key, 'outcome', kind .. ':taken')
  local outcome = cjson.decode(f[1])
  for _, field in ipairs({'id', 'state', 'lane'}) do
    if type(outcome[field]) ~= 'string' then error('its ' .. field .. ' is missing') end
  end
  if not is_utf8(f[1]) then error('it is no text') end
  return f
end
local f = apart('notice', name, read)
if not f then
  redis.call('ZADD', NOTICES, now + AGAIN_MS, name)
  return {events, 'bad'}
end
if f[2] and now < tonumber(f[2]) + lease then return {events, 'copy'} end
local r = rest(receiver(kind, f[1]))
if now < r.over then
  redis.call('ZADD', NOTICES, r.over, name)
  return {events, 'wait'}
end
redis.call('ZADD', NOTICES, now + lease, name)
redis.call('HSET', key, kind .. ':taken', now)
redis.call('HINCRBY', key, kind .. ':tries', 1)
return {events, 'go', f[1], r.failures}
