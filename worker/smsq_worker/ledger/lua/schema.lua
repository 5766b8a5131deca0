-- Return the ledger's schema, and raise it where it is lower: a late caller never lowers it.
--
-- KEYS[1] the schema  KEYS[2...] a ledger in use has at least one of these
-- ARGV[1] version of a ledger that is empty, which every release can read
-- ARGV[2] version  ARGV[3] readable_by, to which it is raised; 0: it stays
-- Returns {version, readable_by}
--
-- One act, because workers of several releases may start at once.

local found = redis.call('HMGET', KEYS[1], 'version', 'readable_by')
if not found[1] then
  -- Release 0.1.0 does not say its version.
  local in_use = redis.call('EXISTS', unpack(KEYS, 2)) > 0
  found = {in_use and 1 or ARGV[1], 1}
end
local version = math.max(tonumber(found[1]), tonumber(ARGV[2]))
local readable_by = math.max(tonumber(found[2]), tonumber(ARGV[3]))
redis.call('HSET', KEYS[1], 'version', version, 'readable_by', readable_by)
return {version, readable_by}
