-- Note that a worker has the wake-ups of these messages in hand, so that they do not count as lost.
-- needs: set_aside message clock_step
--
-- ARGV[1] ms until the scheduler asks again  ARGV[2...] ids
-- Returns {events}
--
-- One act, because a message may be admitted meanwhile: then its timer means something else.

local ask_ms = tonumber(ARGV[1])
local function put_off(id)
  local m = load(id)
  if m and m.state == 'queued' and redis.call('ZSCORE', KEY_TIMERS, id) then
    drop(m, 'overtaken')
    timer(m, math.min(now + ask_ms, m.expires))
    save(m)
  end
end

return whole_act(function()
  for i = 2, #ARGV do apart('message', ARGV[i], put_off, ARGV[i]) end
  return {events}
end)
