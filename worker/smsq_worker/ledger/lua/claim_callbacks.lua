-- Return callbacks that are due, and put off their next wake-up.
-- needs: set_aside message announce compaction clock_step
--
-- ARGV[1] how many at most  ARGV[2] ms to the next wake-up
-- Returns {events, name, ...}
--
-- One act, so that two workers do not publish the same ones.

local answer = {events}
local function announce_new(id, state)
  local m = load(id)
  if m then
    unfold(m)  -- There may have been late news of it.
    if m.state == state then announce(m) end  -- Whoever moved it on has announced that.
    count_end_of_new(m, state)
  end
  return true
end

local function claim(name)
  local state, new = string.match(name, '^new:(%l+):(.*)$')
  if new and apart('notice', name, announce_new, new, state) then
    score(KEY_NOTICES, name)
  elseif not new and is_line(name) and name:find('^%l+:%l+:.') then
    score(KEY_NOTICES, name, now + tonumber(ARGV[2]))
    answer[#answer + 1] = name
  else
    score(KEY_NOTICES, name, now + AGAIN_MS)
    if not new then set_aside('notice', name, 'its name is malformed') end
  end
end

return whole_act(function()
  local due = redis.call('ZRANGEBYSCORE', KEY_NOTICES, '-inf', now, 'LIMIT', 0, ARGV[1])
  for _, name in ipairs(due) do claim(name) end
  return answer
end)
