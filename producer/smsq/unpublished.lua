-- Note that a message's wake-up could not be published, so that the scheduler does it at once.
--
-- KEYS[1] message  KEYS[2] timers  ARGV[1] id
-- Returns 1 where it is noted.
--
-- One act, because a publication that seemed to fail may have arrived: where a worker has moved
-- the message on, its timer means something else and must be left alone.

if redis.call('HGET', KEYS[1], 'state') ~= 'queued' then return 0 end
redis.call('HSET', KEYS[1], 'published', 0)
redis.call('ZADD', KEYS[2], 0, ARGV[1])
return 1
