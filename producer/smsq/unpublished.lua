-- Note that a message's wake-up could not be published, so that the scheduler does it at once.
--
-- ARGV[1] id
-- Returns 1 where it is noted.
--
-- One act, because a publication that seemed to fail may have arrived: where a worker has moved
-- the message on, its timer means something else and must be left alone.

local function unpublished(_, ARGV)
  local message = KEY_MESSAGE .. ARGV[1]
  if redis.call('HGET', message, 'state') ~= 'queued' then return 0 end
  redis.call('HSET', message, 'published', 0)
  redis.call('ZADD', KEY_TIMERS, 0, ARGV[1])
  return 1
end
