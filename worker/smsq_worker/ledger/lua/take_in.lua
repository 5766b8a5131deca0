-- Keep reports until they are reconciled, and set the time at which each is woken up again.
--
-- KEYS[1] inbox  ARGV[1] ms to that time  ARGV[2..] members
-- One act, so that the time is this server's without another round trip.

local clock = redis.call('TIME')
local due = clock[1] * 1000 + math.floor(clock[2] / 1000) + tonumber(ARGV[1])
for i = 2, #ARGV do redis.call('ZADD', KEYS[1], due, ARGV[i]) end
