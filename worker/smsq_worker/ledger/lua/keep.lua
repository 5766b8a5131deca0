-- Set fields of a hash and drop others, as an operator says.
-- needs: audit
--
-- KEYS[1] hash  ARGV[1] the operator's act, see audit.lua
-- ARGV[2] how many arguments after it are fields and values to set
-- ARGV[3...] these, and then the fields to drop
--
-- One act, because a worker may read at any moment; and a script, because it holds at the memory
-- limit of Redis, too.

local last = 2 + tonumber(ARGV[2])
if last > 2 then redis.call('HSET', KEYS[1], unpack(ARGV, 3, last)) end
if #ARGV > last then redis.call('HDEL', KEYS[1], unpack(ARGV, last + 1)) end
note_act(ARGV[1], 'done')
