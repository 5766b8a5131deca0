-- Give a call that is late another departure, so that it does not crowd those in time.
--
-- ARGV[1] id  ARGV[2] attempt
-- Returns {events, us}: it departs then
--
-- One act, as admit.

local call = ARGV[2] .. ' ' .. ARGV[1]
redis.call('ZREM', CALLS, call)
local r = rate()
local at = room(r, us + EARLY)
departs(r, at, call)
return {events, math.ceil(at - us)}
