-- Pause or resume a scope, as an operator says.
-- needs: pauses clock_step audit
--
-- ARGV[1] "pause" or "resume"  ARGV[2] scope  ARGV[3] the operator's words
-- ARGV[4] the operator's act, see audit.lua
-- Returns 1 where that changed something.

local changed = whole_act(function()
  if ARGV[1] == 'pause' then return pause(ARGV[2], 'operator', ARGV[3]) end
  return resume(ARGV[2], ARGV[3])
end)
-- The next worker logs it: that is where others look for it.
for _, words in ipairs(events) do redis.call('RPUSH', KEY_TOLD, words) end
redis.call('LTRIM', KEY_TOLD, -100, -1)
note_act(ARGV[4], changed and ARGV[1] .. 'd' or 'nothing changed')
return changed and 1 or 0
