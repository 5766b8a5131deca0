-- Pause or resume a scope, as an operator says.
-- needs: pauses clock_step
--
-- ARGV[1] "pause" or "resume"  ARGV[2] scope  ARGV[3] the operator's words
-- Returns 1 where that changed something.

local changed = whole_act(function()
  if ARGV[1] == 'pause' then return pause(ARGV[2], 'operator', ARGV[3]) end
  return resume(ARGV[2], ARGV[3])
end)
-- The next worker logs it: that is where others look for it.
for _, words in ipairs(events) do redis.call('RPUSH', KEY_TOLD, words) end
redis.call('LTRIM', KEY_TOLD, -100, -1)
return changed and 1 or 0
