-- Which message holds an idempotency key.

local function name_of(space, digest)
  return KEY_IDEMPOTENCY .. (space == '' and '' or space .. ':') .. digest
end

-- Release 0.2.0 keeps the keys of all callers where this one keeps those of Python callers. It may run
-- beside this one, before or after it, so what the others take is kept there too, and what is there
-- belongs to the caller of its holder. All this goes with the release after this one.

local function caller_of(holder)
  local state, caller = unpack(redis.call('HMGET', KEY_MESSAGE .. holder, 'state', 'caller'))
  return state and (caller or '')
end

-- What another caller left there through this release says so in place of the fingerprint: the ledger
-- may forget a message sooner than its key.
local function marked(space)
  return '@' .. space
end

-- Return whether a holder found in the place of Python callers is the namespace's own. One with
-- neither mark nor fingerprint was 0.2.0's. Where the ledger has forgotten it, it counts. Without a
-- caller the key was taken by the relay, whose ids are UUIDs of version 4 without hyphens, or by a
-- Python caller or send-file, which nothing tells apart.
local function is_its_own(space, digest, holder)
  local taken_for = redis.call('GET', name_of('', digest) .. ':fp')
  if taken_for then return taken_for == marked(space) end
  local caller = caller_of(holder)
  if not caller then return true end
  if caller ~= '' then return space == 'relay:' .. caller end
  local by_relay = #holder == 32 and holder:find('^%x+$') and holder:sub(13, 13) == '4'
  return space == (by_relay and 'relay:' or 'file')
end

-- Leave the place of Python callers to them: move what another holds there to its own place. Returns
-- whether it was another's.
local function give_way(digest, holder)
  local taken_for = redis.call('GET', name_of('', digest) .. ':fp')
  if taken_for then return taken_for:sub(1, 1) == '@' end
  local caller = caller_of(holder)
  if not caller or caller == '' then return false end
  redis.call('RENAMENX', name_of('', digest), name_of('relay:' .. caller, digest))
  return true
end

local function holder_of(space, digest)
  local holder = redis.call('GET', name_of(space, digest))
  if space == '' then return holder and not give_way(digest, holder) and holder end
  if holder then return holder end
  local old = redis.call('GET', name_of('', digest))
  return old and is_its_own(space, digest, old) and old
end
