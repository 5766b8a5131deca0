-- Read the rate of an account as it is now.
-- needs: rate
--
-- ARGV[1] the key of the account
-- Returns {events, limit, burst, attempts a second now, 1 where an operator set it,
--   ms of when it is at the limit again, or 0 where it is now}

-- What the workers' settings say counts, not those of whoever asks.
local of = ARGV[1] == '' and '' or '@' .. ARGV[1]
local key = KEY_RATE .. of
local workers = redis.call('HMGET', key, 'workers_limit', 'workers_burst')
local r = rate(of, workers[1], workers[2])
local set_here, back_at = redis.call('HEXISTS', key, 'limit'), 0
if r.now < r.limit then
  local slow = tonumber(redis.call('HGET', key, 'slow'))
  local steps = math.ceil((r.limit - slow) / (RECOVERY * r.limit))
  back_at = r.slow_at + steps * RECOVERY_MS
end
return {events, tostring(r.limit), tostring(r.burst), tostring(r.now), set_here, back_at}
