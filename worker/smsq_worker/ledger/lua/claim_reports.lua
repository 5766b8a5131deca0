-- Give reports that were taken in but not reconciled in time, and put off their next turn.
--
-- KEYS[1] inbox  ARGV[1] how many at the most  ARGV[2] ms to the next turn
-- Returns the members. One act, so that two workers do not publish the same ones.

local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local next = now + tonumber(ARGV[2])
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[1])
-- None is put off for longer, but by a clock that was set back since.
local ahead = redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. next, '+inf', 'LIMIT', 0, ARGV[1])
for _, members in ipairs({due, ahead}) do
  for _, member in ipairs(members) do redis.call('ZADD', KEYS[1], next, member) end
end
return due
