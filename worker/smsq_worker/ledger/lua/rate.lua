-- Read the rate as it is now: {events, limit, burst, calls a second now, set by an operator}.

local r = rate()
local set_here = redis.call('HEXISTS', RATE_KEY, 'limit')
return {events, tostring(r.limit), tostring(r.burst), tostring(r.now), set_here}
