-- Keep reports until they are reconciled, and set the time at which each is woken up again.
--
-- KEYS[1] inbox  ARGV[1] ms to that time  ARGV[2..] members, at most 1000
-- One act, so that the time is this server's without another round trip.

local clock = redis.call('TIME')
local due = clock[1] * 1000 + math.floor(clock[2] / 1000) + tonumber(ARGV[1])
local scored = {}
for i = 2, #ARGV do
  scored[#scored + 1] = due
  scored[#scored + 1] = ARGV[i]
end
if scored[1] then redis.call('ZADD', KEYS[1], unpack(scored)) end
