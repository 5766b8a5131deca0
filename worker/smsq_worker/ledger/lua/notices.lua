-- What the acts on outcomes share; prepended to each, after common.lua.

local DEAD, RECEIVERS = 'smsq:notices:dead', 'smsq:receivers'

-- Give the kind and the outcome's key of a notice "<kind>:<state>:<id>".
local function outcome_of(name)
  local kind, outcome = string.match(name, '^(%l+):(.*)$')
  return kind, 'smsq:o:' .. outcome
end

-- Name who is told: a failure says nothing of the others.
local function receiver(kind, outcome)
  if kind ~= 'returnurl' then return kind end
  return string.match(cjson.decode(outcome).returnurl, '^%a+://[^/?#]+') or kind
end

-- Give how often a receiver has failed in a row, and until when it rests.
local function rest(who)
  local failures, over = string.match(redis.call('HGET', RECEIVERS, who) or '', '^(%d+) (%d+)$')
  return {failures = tonumber(failures or 0), over = tonumber(over or 0)}
end

-- Let a receiver that failed rest. Those asked at the same time are one failure.
local function rests(who, over)
  local r = rest(who)
  if now < r.over then return end
  redis.call('HSET', RECEIVERS, who, string.format('%d %d', r.failures + 1, over))
end

-- It has been told, or nobody will: with its last kind the outcome goes too.
local function forget(name)
  local kind, key = outcome_of(name)
  redis.call('ZREM', NOTICES, name)
  redis.call('ZREM', DEAD, name)
  redis.call('HDEL', key, kind .. ':tries', kind .. ':taken', kind .. ':error')
  if redis.call('HINCRBY', key, 'pending', -1) <= 0 then redis.call('DEL', key) end
end
