-- Note when scheduled messages are due, which release 0.1.0 did not; see `accept` in histograms.py.
-- needs: set_aside message clock_step
--
-- ARGV ids
-- Returns {events}
--
-- One act, because a message may be woken up meanwhile: then its timer means something else.

local function note(id)
  local m, at = load(id), redis.call('ZSCORE', KEY_TIMERS, id)
  if m and at and m.state == 'deferred' and m.n == 0
      and not redis.call('ZSCORE', KEY_WAITING .. m.template, id) then
    if not m.f.due then set(m, 'due', whole(at)) end
    write(m)
  end
end

for _, id in ipairs(ARGV) do apart('message', id, note, id) end
return {events}
