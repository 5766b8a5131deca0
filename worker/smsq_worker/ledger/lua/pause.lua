-- Pause or resume a scope by an operator's word.
--
-- ARGV[1] "pause" or "resume"  ARGV[2] scope  ARGV[3] the operator's words
-- Returns {events, 1 where that changed something}

local changed
if ARGV[1] == 'pause' then
  changed = pause(ARGV[2], 'operator', ARGV[3])
else
  changed = resume(ARGV[2], ARGV[3])
end
return {events, changed and 1 or 0}
