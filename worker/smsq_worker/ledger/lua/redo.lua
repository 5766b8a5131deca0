-- Note of messages that they are sent again, each as another whose id follows from its own.
-- needs: hashes idempotency
--
-- ARGV[1] as JSON [[id, the other's id, {field = value, ...} as it was read, its payload], ...]
-- Returns for each, in order: go, done, changed, or sent <id> of the message that holds its key
--
-- One act for each message, because a report, or its backend with the same key, may come meanwhile. The
-- other is entered next, by enqueue.lua: who dies in between has noted only what repeating it completes.

local function is_as_read(f, seen)
  for field, value in pairs(f) do
    if field ~= 'redone_by' and field ~= 'freed' and seen[field] ~= value then return false end
  end
  for field in pairs(seen) do
    if not f[field] then return false end
  end
  return true
end

local function note(id, other, seen, payload)
  local message = KEY_MESSAGE .. id
  local f = read_fields(message)
  if f.redone_by and redis.call('EXISTS', KEY_MESSAGE .. other) == 1 then return 'done' end
  if not is_as_read(f, seen) or redis.call('GET', KEY_PAYLOAD .. id) ~= payload then return 'changed' end
  local key = cjson.decode(payload)[3]
  if key ~= '' then
    local holder = redis.call('GET', KEY_IDEMPOTENCY .. key)
    if holder and holder ~= id then return 'sent ' .. holder end
    free_key(id, key)
  end
  -- News that it arrived after all are of a second SMS then, whether it had a key or not.
  redis.call('HSET', message, 'redone_by', other, 'freed', 1)
  return 'go'
end

local answers = {}
for i, one in ipairs(cjson.decode(ARGV[1])) do answers[i] = note(unpack(one)) end
return answers
