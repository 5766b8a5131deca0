-- Replace a suppressed number's entry by the same under other payload keys.
--
-- KEYS[1] suppressed numbers
-- ARGV[1] phone hash as it was  ARGV[2] the entry as it was read  ARGV[3] phone hash  ARGV[4] the entry
-- Returns 1 where it was replaced
--
-- One act, because the number must be suppressed all the time, and an operator may change the
-- entry at any. Where there are two, the longer one counts.

if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
redis.call('HDEL', KEYS[1], ARGV[1])
local other = redis.call('HGET', KEYS[1], ARGV[3])
if not other or cjson.decode(other)['until'] < cjson.decode(ARGV[4])['until'] then
  redis.call('HSET', KEYS[1], ARGV[3], ARGV[4])
end
return 1
