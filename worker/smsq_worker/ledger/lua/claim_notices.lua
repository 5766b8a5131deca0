-- Give outcomes that are to be told now, and put off their next turn.
--
-- ARGV[1] how many at the most  ARGV[2] ms to the next turn
-- Returns {events, name, ...}. One act, so that two workers do not publish the same ones.

local answer = {events}
local function find_out(id)
  local m = load(id)
  if m then announce(m) end
  return true
end

for _, name in ipairs(redis.call('ZRANGEBYSCORE', NOTICES, '-inf', now, 'LIMIT', 0, ARGV[1])) do
  local new = string.match(name, '^new:%l+:(.*)$')
  if new then
    if apart('notice', name, find_out, new) then
      redis.call('ZREM', NOTICES, name)
    else
      redis.call('ZADD', NOTICES, now + AGAIN_MS, name)
    end
  elseif is_line(name) and name:find('^%l+:%l+:.') then
    redis.call('ZADD', NOTICES, now + tonumber(ARGV[2]), name)
    answer[#answer + 1] = name
  else
    redis.call('ZADD', NOTICES, now + AGAIN_MS, name)
    set_aside('notice', name, 'its name is malformed')
  end
end
return answer
