-- Encrypt a message that was written without keys, so that what is kept by its number finds it.
--
-- KEYS[1] message  KEYS[2] payload
-- ARGV[1] the payload as it was read  ARGV[2] the same encrypted  ARGV[3] phone hash, by the lookup key
--
-- One act, because another worker may do the same, and the message may come to its end.

if redis.call('GET', KEYS[2]) == ARGV[1] then
  redis.call('SET', KEYS[2], ARGV[2], 'KEEPTTL')
  -- What has ended keeps none with it, but in what is kept behind the number (ends.lua).
  if redis.call('HEXISTS', KEYS[1], 'expires') == 1 then redis.call('HSET', KEYS[1], 'who', ARGV[3]) end
end
