-- Move the weights of routes that prefer delivery, once an hour.
-- needs: base
--
-- ARGV[1] the hour of the last move, as whoever decided this one has read it, '' for none
-- ARGV[2] the hour of this one  ARGV[3] how many arguments follow that are to be told
-- ARGV[4...] these; then fields and values to set; then '' and fields to drop
-- Returns {events, 1}; 0 where another worker has moved them meanwhile
--
-- One act, because every worker looks at them: the first moves, and no other.

if (redis.call('HGET', KEY_WEIGHTS, 'share:hour') or '') ~= ARGV[1] then return {events, 0} end
redis.call('HSET', KEY_WEIGHTS, 'share:hour', ARGV[2])
local n = 4
while n < 4 + tonumber(ARGV[3]) do
  tell(ARGV[n])
  n = n + 1
end
while ARGV[n] and ARGV[n] ~= '' do
  redis.call('HSET', KEY_WEIGHTS, ARGV[n], ARGV[n + 1])
  n = n + 2
end
for i = n + 1, #ARGV do redis.call('HDEL', KEY_WEIGHTS, ARGV[i]) end
return {events, 1}
