-- Counting the messages of campaigns, in the acts that change their states. Producers and workers
-- share it; keys.py has the fields of a campaign's record.
--
-- Ways are counted, not states: that takes one command where a state left and a state entered take two.

-- As all of a campaign can be final while its sender reads the next batch, it has ended after so long.
local CAMPAIGN_QUIET_MS = 60000
-- Beyond this many fields a new reason gets no separate one. All others are fewer than 190.
local CAMPAIGN_FIELDS = 240

local function count_reason(key, reason, by)
  local field = 'reason:' .. reason
  if redis.call('HINCRBY', key, field, by) == by and redis.call('HLEN', key) > CAMPAIGN_FIELDS then
    redis.call('HDEL', key, field)
    redis.call('HINCRBY', key, 'reason:other', by)
  end
end

-- Return whether any message is live. Note of each lane how many are: before as many have ended, nobody
-- needs to look again.
local function has_live(key)
  local is_any = false
  for _, lane in ipairs({'otp:', 'notice:', 'bulk:'}) do
    local f = redis.call('HMGET', key, lane .. '>queued', lane .. '>deferred', lane .. 'goal', lane .. 'left')
    local ended = (f[3] or 0) - (f[4] or 0)
    local live = (f[1] or 0) + (f[2] or 0) - ended
    if live > 0 then
      redis.call('HSET', key, lane .. 'left', live, lane .. 'goal', ended + live)
      is_any = true
    end
  end
  return is_any
end

-- Add to the counts of a campaign of which messages have ended what `one` has:
--   sums     field -> by how much
--   reasons  reason -> how many more have failed for it
--   ends     lane -> how many came to their end; 0 where there was only late news of some
local function count_in_campaign(name, one, now)
  local key, is_new, is_live = KEY_CAMPAIGN .. name, false, false
  for field, by in pairs(one.sums) do
    if by ~= 0 then is_new = redis.call('HINCRBY', key, field, by) == by or is_new end
  end
  for reason, by in pairs(one.reasons) do
    if by ~= 0 then count_reason(key, reason, by) end
  end
  for lane, n in pairs(one.ends) do
    local left = redis.call('HINCRBY', key, lane .. ':left', 0 - n)
    is_new, is_live = is_new or left == -n, is_live or left > 0
  end
  if is_new and redis.call('HEXISTS', key, 'at') == 0 then
    redis.call('DEL', key)  -- It was forgotten; late news of a message do not bring it back.
  elseif next(one.ends) and not is_live and not has_live(key) then
    redis.call('HSET', key, 'ended', now)
    redis.call('ZADD', KEY_CAMPAIGNS, now + CAMPAIGN_QUIET_MS, name)
  end
end
