-- What both acts of verification share. A challenge is one hash (KEY_CHALLENGE): the digest of its
-- code, and for each of at most two pools, "known" and "unknown" devices, a handle with its tries. An
-- id is the challenge's name and a handle, so who has one cannot spend the tries of the other.

local MOST_TRIES = 5
local MOST_WRONG, WRONG_MS = 15, 3600 * 1000  -- of a number in a pool
local MOST_FIELDS = 1000  -- of KEY_DURATIONS; templates beyond are counted as one

local function now_ms()
  local clock = redis.call('TIME')
  return clock[1] * 1000 + math.floor(clock[2] / 1000)
end

local function count_verification(template, result)
  local field = 'verifications:' .. template .. ':' .. result
  local is_new = not redis.call('HGET', KEY_DURATIONS, field)
  if is_new and redis.call('HLEN', KEY_DURATIONS) >= MOST_FIELDS then
    field = 'verifications:other:' .. result
  end
  redis.call('HINCRBY', KEY_DURATIONS, field, 1)
end

local function wrong_key(pool, who)
  return KEY_WRONG .. pool .. ':' .. who
end

-- Where the server's clock was set back, a moment of before the step is ahead. What the newest is ahead
-- by, all of them move back: else a number would be locked, and a code good, for as long as the step.

-- Return from when a number may be guessed at again; nothing where it may be now.
local function guessed_again_at(pool, who, now)
  local key = wrong_key(pool, who)
  local newest = tonumber(redis.call('LINDEX', key, 0) or 0)
  if newest > now then
    -- By commands that producers' users may run.
    local all = {}
    for i = 0, MOST_WRONG - 1 do all[i + 1] = redis.call('LINDEX', key, i) or nil end
    for i = #all, 1, -1 do redis.call('LPUSH', key, all[i] - (newest - now)) end
    redis.call('LTRIM', key, 0, #all - 1)
    redis.call('PEXPIRE', key, WRONG_MS)
  end
  local oldest = tonumber(redis.call('LINDEX', key, MOST_WRONG - 1) or 0)
  return oldest + WRONG_MS > now and oldest + WRONG_MS or nil
end

-- Keep a challenge until some time after its end, so that a code that comes too late is counted as such.
local function keep_challenge(key, expires, now)
  redis.call('PEXPIRE', key, expires - now + 600000)
end

-- Return when a challenge that was started `at` some moment ends.
local function end_of(key, at, expires, now)
  local ahead = tonumber(at or 0) - now
  if ahead <= 0 then return tonumber(expires) end
  expires = expires - ahead
  redis.call('HSET', key, 'at', now, 'expires', expires)
  keep_challenge(key, expires, now)
  return expires
end

local function note_wrong(pool, who, now)
  local key = wrong_key(pool, who)
  redis.call('LPUSH', key, now)
  redis.call('LTRIM', key, 0, MOST_WRONG - 1)
  redis.call('PEXPIRE', key, WRONG_MS)
end
