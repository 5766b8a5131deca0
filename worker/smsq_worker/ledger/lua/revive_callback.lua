-- Replay or drop a callback that was given up, as the operator decided.
-- needs: receivers audit
--
-- ARGV[1] name  ARGV[2] 'replay' or 'drop'  ARGV[3] the operator's act, see audit.lua
-- Returns {events, '1'}, or {events, ''} where it is not among them

if not redis.call('ZSCORE', KEY_DEAD_NOTICES, ARGV[1]) then
  note_act(ARGV[3], 'not among those given up')
  return {events, ''}
end
if ARGV[2] == 'drop' then
  forget(ARGV[1])
else
  local kind, key = callback_of(ARGV[1])
  redis.call('ZREM', KEY_DEAD_NOTICES, ARGV[1])
  redis.call('HSET', key, 'since', now)
  recovered(receivers_of(kind, redis.call('HGET', key, 'outcome')))
  redis.call('ZADD', KEY_NOTICES, now, ARGV[1])
end
note_act(ARGV[3], 'done')
return {events, '1'}
