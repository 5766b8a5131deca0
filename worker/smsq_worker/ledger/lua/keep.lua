-- Set fields of a hash and drop others, as an operator says.
--
-- KEYS[1] hash  ARGV[1] how many arguments after it are fields and values to set
-- ARGV[2...] these, and then the fields to drop
--
-- One act, because a worker may read at any moment; and a script, because it holds at the memory
-- limit of Redis, too.

local last = 1 + tonumber(ARGV[1])
redis.call('HSET', KEYS[1], unpack(ARGV, 2, last))
if #ARGV > last then redis.call('HDEL', KEYS[1], unpack(ARGV, last + 1)) end
