-- Give outcomes that are to be told now, and put off their next turn.
--
-- ARGV[1] how many at the most  ARGV[2] ms to the next turn
-- Returns {events, name, ...}. One act, so that two workers do not publish the same ones.

local answer = {events}
for _, name in ipairs(redis.call('ZRANGEBYSCORE', NOTICES, '-inf', now, 'LIMIT', 0, ARGV[1])) do
  local new = string.match(name, '^new:%l+:(.*)$')
  if new then
    redis.call('ZREM', NOTICES, name)
    local m = load(new)
    if m then announce(m) end
  else
    redis.call('ZADD', NOTICES, now + tonumber(ARGV[2]), name)
    answer[#answer + 1] = name
  end
end
return answer
