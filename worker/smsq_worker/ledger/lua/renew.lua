-- Replace a suppressed number's entry by the same under other payload keys.
-- needs: suppression
--
-- ARGV[1] phone hash as it was  ARGV[2] the entry as it was read  ARGV[3] phone hash  ARGV[4] the entry
-- Returns 1 where it was replaced
--
-- One act, because the number must be suppressed all the time, and an operator may change the
-- entry at any. Where there are two, the longer one counts, in each lane.

if redis.call('HGET', KEY_SUPPRESSED, ARGV[1]) ~= ARGV[2] then return 0 end
redis.call('HDEL', KEY_SUPPRESSED, ARGV[1])
local other = suppression_of(ARGV[3])
local entry = other and cjson.encode(laid_over(other, cjson.decode(ARGV[4]))) or ARGV[4]
redis.call('HSET', KEY_SUPPRESSED, ARGV[3], entry)
return 1
