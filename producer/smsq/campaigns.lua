-- Counting the messages of campaigns, in the acts that change their states. Producers and workers
-- share it; keys.py has the fields of a campaign's record.

-- As all of a campaign can be final while its sender reads the next batch, it has ended after so long.
local CAMPAIGN_QUIET_MS = 60000
-- Beyond this many fields a new reason gets no separate one. All others are fewer than 60.
local CAMPAIGN_FIELDS = 110

local function field_of_reason(key, field)
  local is_own = redis.call('HEXISTS', key, field) == 1 or redis.call('HLEN', key) < CAMPAIGN_FIELDS
  return is_own and field or 'reason:other'
end

local function has_live(key)
  local counts = redis.call('HMGET', key, 'otp:queued', 'otp:sending', 'otp:deferred', 'otp:accepted',
    'otp:held', 'notice:queued', 'notice:sending', 'notice:deferred', 'notice:accepted', 'notice:held',
    'bulk:queued', 'bulk:sending', 'bulk:deferred', 'bulk:accepted', 'bulk:held')
  for i = 1, #counts do
    if tonumber(counts[i] or 0) > 0 then return true end
  end
  return false
end

-- Add to a campaign's counts, field by field; `ends`: some of its messages came to their end.
local function count_in_campaign(name, sums, ends, now)
  local key, is_negative = KEY_CAMPAIGN .. name, false
  for field, by in pairs(sums) do
    if by ~= 0 then
      if field:sub(1, 7) == 'reason:' then field = field_of_reason(key, field) end
      is_negative = redis.call('HINCRBY', key, field, by) < 0 or is_negative
    end
  end
  if is_negative and redis.call('HEXISTS', key, 'at') == 0 then
    redis.call('DEL', key)  -- It was forgotten; late news of a message do not bring it back.
  elseif ends and not has_live(key) then
    redis.call('HSET', key, 'ended', now)
    redis.call('ZADD', KEY_CAMPAIGNS, now + CAMPAIGN_QUIET_MS, name)
  end
end
