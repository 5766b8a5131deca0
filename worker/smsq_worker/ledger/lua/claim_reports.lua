-- Return reports that were taken in but not reconciled in time, and put off their next wake-up.
-- needs: set_aside
--
-- KEYS[1] inbox  ARGV[1] how many at most  ARGV[2] ms to the next wake-up
-- Returns the members.
--
-- One act, so that two workers do not publish the same ones.

local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local next = now + tonumber(ARGV[2])
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[1])
local good, put_off = {}, {}
for _, member in ipairs(due) do
  put_off[#put_off + 1] = member
  local ok, report = pcall(cjson.decode, member)
  if ok and is_utf8(member) and type(report) == 'table' and #report == 2
      and type(report[1]) == 'string' and type(report[2]) == 'string' then
    good[#good + 1] = member
  else
    set_aside('report', member, 'its entry is malformed')
  end
end
-- None is put off for longer, except by a clock that was set back since.
for _, member in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. next, '+inf', 'LIMIT', 0, ARGV[1])) do
  put_off[#put_off + 1] = member
end
if put_off[1] then
  local scored = {}
  for i, member in ipairs(put_off) do scored[2 * i - 1], scored[2 * i] = next, member end
  redis.call('ZADD', KEYS[1], unpack(scored))
end
return good
