-- A campaign's share of the one rate: slots of its own, one gap apart, before those of the account.
-- needs: message
--
-- A message keeps its slot (`turn`) until it goes. What has none waits in the campaign's room, from
-- which the scheduler takes as many as there are slots: so another rate holds for all that wait.

local campaigns = {}

-- Read what an operator set for a message's campaign, once in an act.
local function campaign_of(m)
  local one = campaigns[m.campaign]
  if not one then
    local f = redis.call('HMGET', KEY_CAMPAIGN .. m.campaign, 'stop', 'rate', 'slot')
    one = {key = KEY_CAMPAIGN .. m.campaign, stop = f[1], rate = tonumber(f[2]),
      slot = tonumber(f[3] or 0)}
    campaigns[m.campaign] = one
  end
  return one
end

-- Return whether the sweep ends a message of a cancelled campaign. To end a million wherever an act
-- meets one would keep otps waiting.
local function is_left_to_sweep(m)
  local one = m.campaign and campaign_of(m)
  if not one or one.stop ~= 'cancelled' then return false end
  if one.is_swept == nil then
    one.is_swept = redis.call('HEXISTS', KEY_CAMPAIGN_SWEEP, 'name:' .. m.campaign) == 1
  end
  return one.is_swept
end

-- Book as many of a campaign's slots as are free by now, at most so many; return how many.
local function book_slots(one, at_most)
  local us = clock[1] * 1000000 + clock[2]
  local gap = 1000000 / one.rate
  -- What nobody used is over, but for a tick of the scheduler. A slot that lies far ahead was booked
  -- at a lower rate, or before the clock was set back.
  local slot = math.min(math.max(one.slot, us - 500000), us + gap)
  local n = math.max(0, math.min(at_most, math.floor((us - slot) / gap) + 1))
  if n > 0 or slot ~= one.slot then
    one.slot = slot + n * gap
    redis.call('HSET', one.key, 'slot', whole(one.slot))
  end
  return n
end

-- Return whether a message may go as far as its campaign's rate is concerned. Those that wait go first.
local function has_turn(m)
  local one = campaign_of(m)
  if not one.rate or m.f.turn then return true end
  if redis.call('ZCARD', KEY_CAMPAIGN_ROOM .. m.campaign) > 0 or book_slots(one, 1) == 0 then
    return false
  end
  set(m, 'turn', 1)
  return true
end
