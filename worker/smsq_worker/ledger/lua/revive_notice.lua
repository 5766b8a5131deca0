-- Do with an outcome that was given up what the operator decided.
--
-- ARGV[1] name  ARGV[2] 'replay' or 'drop'
-- Returns {events, '1'}, or {events, ''} where it is not among them

if not redis.call('ZSCORE', DEAD, ARGV[1]) then return {events, ''} end
if ARGV[2] == 'drop' then
  forget(ARGV[1])
else
  local kind, key = outcome_of(ARGV[1])
  redis.call('ZREM', DEAD, ARGV[1])
  redis.call('HSET', key, 'since', now)
  redis.call('HDEL', RECEIVERS, receiver(kind, redis.call('HGET', key, 'outcome')))
  redis.call('ZADD', NOTICES, now, ARGV[1])
end
return {events, '1'}
