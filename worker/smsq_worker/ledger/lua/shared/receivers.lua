-- What the acts on callbacks share: their endpoints, formerly called receivers, which wait in backoff
-- after a failure.
-- needs: base clock_step

-- Return the kind and the key of a callback "<kind>:<state>:<id>".
local function callback_of(name)
  local kind, rest = string.match(name, '^(%l+):(.*)$')
  return kind, KEY_CALLBACK .. rest
end

-- Name the endpoint: a failure says nothing of the others.
local function receiver(kind, final)
  if kind ~= 'returnurl' then return kind end
  return string.match(cjson.decode(final).returnurl, '^%a+://[^/?#]+') or kind
end

-- Return how often an endpoint has failed in a row, and the end of its backoff.
local function backoff(receiver)
  local failures, over =
    string.match(redis.call('HGET', KEY_RECEIVERS, receiver) or '', '^(%d+) (%d+)$')
  return {failures = tonumber(failures or 0), over = tonumber(over or 0)}
end

-- Put an endpoint that failed into backoff. Those asked at the same time are one failure.
local function back_off(receiver, over)
  local b = backoff(receiver)
  if now < b.over then return end
  redis.call('HSET', KEY_RECEIVERS, receiver, string.format('%d %d', b.failures + 1, over))
end

-- It was acknowledged, or never will be: with its last kind the record goes too.
local function forget(name)
  local kind, key = callback_of(name)
  redis.call('ZREM', KEY_NOTICES, name)
  redis.call('ZREM', KEY_DEAD_NOTICES, name)
  redis.call('HDEL', key, kind .. ':tries', kind .. ':taken', kind .. ':error')
  if redis.call('HINCRBY', key, 'pending', -1) <= 0 then redis.call('DEL', key) end
end
