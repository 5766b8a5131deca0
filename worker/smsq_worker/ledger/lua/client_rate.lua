-- Let one more request of a relay's caller pass, or make it wait.
--
-- KEYS[1] when the requests that passed would be done at the caller's rate, in us
-- ARGV[1] requests a second
-- Returns 0, or the us after which the next one may pass.
--
-- One act, because all API processes share the caller's rate, and by one clock, because theirs differ.
-- A second's worth may pass at once, and one request always (GCRA).

local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local rate = tonumber(ARGV[1])
local interval = 1000000 / rate
local burst = math.max(1, rate) * interval

local done = math.max(now, tonumber(redis.call('GET', KEYS[1]) or 0))
-- The clock was set back, or the rate is another.
if done > now + burst then done = now end
done = done + interval
if done > now + burst then return math.ceil(done - now - burst) end

redis.call('SET', KEYS[1], string.format('%.0f', done), 'PX', math.ceil((done - now) / 1000))
return 0
