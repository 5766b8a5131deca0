-- Resend or drop a held message, as the operator decided.
-- needs: ends clock_step audit
--
-- ARGV[1] id  ARGV[2] "resend" or "drop"  ARGV[3] the operator's act, see audit.lua
-- Returns {events, answer, state}: done, unknown, not held, or too late, where the ttl is over and only
-- dropping is left.
--
-- One act, because a late answer or report may end the message at the same moment.

local function answer(what, state)
  note_act(ARGV[3], what .. (state ~= '' and ', now ' .. state or ''))
  return {events, what, state}
end

local m = load(ARGV[1])
if not m then return answer('unknown', '') end
if m.state ~= 'held' then return answer('not held', m.state) end
if is_cancelled(m) then  -- with its campaign, and the sweep has not come to it yet
  return whole_act(function()
    cancel(m)
    save(m)
    return answer('not held', m.state)
  end)
end
if ARGV[2] ~= 'drop' and now >= m.expires then return answer('too late', m.state) end
return whole_act(function()
  if ARGV[2] == 'drop' then
    finish(m, 'failed', 'local:dropped')
  else
    set(m, 'doubt', 1, 'otherwise', 'local:resends')
    defer(m, 0)
  end
  save(m)
  return answer('done', m.state)
end)
