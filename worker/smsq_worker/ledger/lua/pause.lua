-- Pause or resume a scope by an operator's word.
--
-- ARGV[1] "pause" or "resume"  ARGV[2] scope  ARGV[3] the operator's words
-- Returns 1 where that changed something.

local changed
if ARGV[1] == 'pause' then
  changed = pause(ARGV[2], 'operator', ARGV[3])
else
  changed = resume(ARGV[2], ARGV[3])
end
-- A worker's log is where others look for it.
for _, words in ipairs(events) do redis.call('RPUSH', 'smsq:told', words) end
redis.call('LTRIM', 'smsq:told', -100, -1)
return changed and 1 or 0
