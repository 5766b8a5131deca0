-- Decide whether a callback may be dispatched now. If so its endpoint is called under a lease.
-- needs: set_aside receivers
--
-- ARGV[1] name  ARGV[2] ms of the lease
-- Returns {events, 'go', final status, how often its endpoint has failed in a row, how often it was
--   tried}, or {events, why}:
--   gone: it has been acknowledged or given up; copy: another worker is at it;
--   wait: its endpoint failed a moment ago; bad: it cannot be processed
--
-- One act, because only one of two copies of a wake-up may go.

local name, lease = ARGV[1], tonumber(ARGV[2])
if not redis.call('ZSCORE', KEY_NOTICES, name) then return {events, 'gone'} end
local kind, key = callback_of(name)
local function read()
  local f = redis.call('HMGET', key, 'outcome', kind .. ':taken')
  local final = cjson.decode(f[1])
  for _, field in ipairs({'id', 'state', 'lane'}) do
    if type(final[field]) ~= 'string' then error('its ' .. field .. ' is missing') end
  end
  if not is_utf8(f[1]) then error('it is no text') end
  return f
end
local f = apart('notice', name, read)
if not f then
  redis.call('ZADD', KEY_NOTICES, now + AGAIN_MS, name)
  return {events, 'bad'}
end
local taken = f[2] and bounded(tonumber(f[2]), 0)
if taken and taken < tonumber(f[2]) then redis.call('HSET', key, kind .. ':taken', whole(taken)) end
if taken and now < taken + lease then return {events, 'copy'} end
local b = backoff(receivers_of(kind, f[1]))
if now < b.over then
  redis.call('ZADD', KEY_NOTICES, b.over, name)
  return {events, 'wait'}
end
redis.call('ZADD', KEY_NOTICES, now + lease, name)
redis.call('HSET', key, kind .. ':taken', now)
local tries = redis.call('HINCRBY', key, kind .. ':tries', 1)
return {events, 'go', f[1], b.failures, tries}
