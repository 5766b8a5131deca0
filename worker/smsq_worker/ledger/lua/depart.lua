-- Give a call that is late another departure, so that it does not crowd those in time.
--
-- ARGV[1] id  ARGV[2] attempt  ARGV[3] when it began, in Unix ms
-- Returns {events, us}: it departs then; -1 where the attempt no longer holds: it departs no more
--
-- One act, as admit.

local call = ARGV[2] .. ' ' .. ARGV[1]
redis.call('ZREM', CALLS, call)
local m = load(ARGV[1])
local holds = m and m.state == 'sending' and m.n == tonumber(ARGV[2])
  and redis.call('HGET', m.key, m.n .. ':at') == ARGV[3]
if not holds then return {events, -1} end
local r = rate()
local at = room(r, us + EARLY)
departs(r, at, call)
return {events, math.ceil(at - us)}
