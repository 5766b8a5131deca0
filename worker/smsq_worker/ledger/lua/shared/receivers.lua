-- What the acts on callbacks share: their endpoints, formerly called receivers, which wait in backoff
-- after a failure.
-- needs: base clock_step

-- Return the kind and the key of a callback "<kind>:<state>:<id>".
local function callback_of(name)
  local kind, rest = string.match(name, '^(%l+):(.*)$')
  return kind, KEY_CALLBACK .. rest
end

-- Name what a failure may put into backoff: {endpoint, host}. An endpoint that answers badly says
-- nothing of others on its host, and callers are strangers: nothing of one's delays another's. A URL
-- may hold a secret, so only its digest is kept. The third name is what release 0.2.0 notes.
local function receivers_of(kind, final)
  if kind ~= 'returnurl' then return {kind, kind} end
  local f = cjson.decode(final)
  local host = string.match(f.returnurl, '^%a+://[^/?#]+') or kind
  local function named(what, place)
    return what .. ':' .. redis.sha1hex((f.caller or '') .. ' ' .. place)
  end
  return {named('returnurl', f.returnurl), named('host', host), host}
end

-- Return how often one of them has failed in a row, and the end of its backoff.
local function noted(receiver)
  local failures, over =
    string.match(redis.call('HGET', KEY_RECEIVERS, receiver) or '', '^(%d+) (%d+)$')
  return {failures = tonumber(failures or 0), over = tonumber(over or 0)}
end

-- Return the same of an endpoint, which also rests while its host does.
local function backoff(receivers)
  local b, host = noted(receivers[1]), noted(receivers[2])
  return {failures = math.max(b.failures, host.failures), over = math.max(b.over, host.over)}
end

-- Put one that failed into backoff. Those asked at the same time are one failure.
local function back_off(receiver, over)
  local b = noted(receiver)
  if now < b.over then return end
  redis.call('HSET', KEY_RECEIVERS, receiver, string.format('%d %d', b.failures + 1, over))
end

-- Forget their failures: the endpoint is well, or nobody waits to ask it again.
local function recovered(receivers)
  redis.call('HDEL', KEY_RECEIVERS, unpack(receivers))
end

-- It was acknowledged, or never will be: with its last kind the record goes too.
local function forget(name)
  local kind, key = callback_of(name)
  redis.call('ZREM', KEY_NOTICES, name)
  redis.call('ZREM', KEY_DEAD_NOTICES, name)
  redis.call('HDEL', key, kind .. ':tries', kind .. ':taken', kind .. ':error')
  if redis.call('HINCRBY', key, 'pending', -1) <= 0 then redis.call('DEL', key) end
end
