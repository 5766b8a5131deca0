-- Note when scheduled messages are due, which release 0.1.0 did not; see `accept` in durations.py.
--
-- ARGV ids
-- Returns {events}
--
-- One act, because a message may be woken up meanwhile: then its timer means something else.

local function note(id)
  local m, at = load(id), redis.call('ZSCORE', TIMERS, id)
  if m and at and m.state == 'deferred' and m.n == 0
      and not redis.call('ZSCORE', waiting_room(m.template), id) then
    redis.call('HSETNX', m.key, 'due', string.format('%.0f', at))
  end
end

for _, id in ipairs(ARGV) do apart('message', id, note, id) end
return {events}
