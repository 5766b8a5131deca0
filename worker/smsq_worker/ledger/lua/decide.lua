-- Resend or drop a held message, as the operator decided.
-- needs: ends clock_step
--
-- ARGV[1] id  ARGV[2] "resend" or "drop"
-- Returns {events, answer, state}: done, unknown, not held, or too late, where the ttl is over and only
-- dropping is left.
--
-- One act, because a late answer or report may end the message at the same moment.

local m = load(ARGV[1])
if not m then return {events, 'unknown', ''} end
if m.state ~= 'held' then return {events, 'not held', m.state} end
if ARGV[2] ~= 'drop' and now >= m.expires then return {events, 'too late', m.state} end
return whole_act(function()
  if ARGV[2] == 'drop' then
    finish(m, 'failed', 'local:dropped')
  else
    set(m, 'doubt', 1, 'otherwise', 'local:resends')
    defer(m, 0)
  end
  save(m)
  return {events, 'done', m.state}
end)
