-- Set another send time for an attempt that is late, so that it does not crowd those in time.
-- needs: message window
--
-- ARGV[1] id  ARGV[2] attempt  ARGV[3] when it began, in Unix ms  ARGV[4] the key of its account
-- Returns {events, us} of its send time; -1 where the attempt no longer holds: it may not be sent
--
-- One act, as admit.

local booked = ARGV[2] .. ' ' .. ARGV[1]
local of = ARGV[4] == '' and '' or '@' .. ARGV[4]
redis.call('ZREM', KEY_CALLS .. of, booked)
local m = load(ARGV[1])
local holds = m and m.state == 'sending' and m.n == tonumber(ARGV[2])
  and m.f[m.n .. ':at'] == ARGV[3]
if not holds then return {events, -1} end
return whole_act(function()
  local r = rate(of)
  local at = room(r, us + EARLY)
  departs(r, at, booked)
  return {events, math.ceil(at - us)}
end)
