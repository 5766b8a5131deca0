-- Return callbacks that are due, and put off their next wake-up.
-- needs: set_aside message announce clock_step
--
-- ARGV[1] how many at most  ARGV[2] ms to the next wake-up
-- Returns {events, name, ...}
--
-- One act, so that two workers do not publish the same ones.

local answer = {events}
local function announce_new(id)
  local m = load(id)
  if m then announce(m) end
  return true
end

for _, name in ipairs(redis.call('ZRANGEBYSCORE', KEY_NOTICES, '-inf', now, 'LIMIT', 0, ARGV[1])) do
  local new = string.match(name, '^new:%l+:(.*)$')
  if new and apart('notice', name, announce_new, new) then
    redis.call('ZREM', KEY_NOTICES, name)
  elseif not new and is_line(name) and name:find('^%l+:%l+:.') then
    redis.call('ZADD', KEY_NOTICES, now + tonumber(ARGV[2]), name)
    answer[#answer + 1] = name
  else
    redis.call('ZADD', KEY_NOTICES, now + AGAIN_MS, name)
    if not new then set_aside('notice', name, 'its name is malformed') end
  end
end
return answer
