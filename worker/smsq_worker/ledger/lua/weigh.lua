-- Move the weights of routes that prefer delivery, once an hour.
-- needs: base
--
-- ARGV[1] the hour of the last move, as whoever decided this one has read it, '' for none
-- ARGV[2] the hour of this one
-- ARGV[3] as JSON {what is to be told, {field = value, ...} to set, fields to drop}
-- Returns {events, 1}; 0 where another worker has moved them meanwhile
--
-- One act, because every worker looks at them: the first moves, and no other.

if (redis.call('HGET', KEY_WEIGHTS, 'share:hour') or '') ~= ARGV[1] then return {events, 0} end
redis.call('HSET', KEY_WEIGHTS, 'share:hour', ARGV[2])
local told, put, dropped = unpack(cjson.decode(ARGV[3]))
for _, words in ipairs(told) do tell(words) end
for field, value in pairs(put) do redis.call('HSET', KEY_WEIGHTS, field, value) end
for _, field in ipairs(dropped) do redis.call('HDEL', KEY_WEIGHTS, field) end
return {events, 1}
