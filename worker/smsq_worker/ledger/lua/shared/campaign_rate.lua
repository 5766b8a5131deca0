-- A campaign's share of the one rate: slots of its own, one gap apart, before those of the account.
-- needs: message
--
-- A message keeps its slot (`turn`) until it goes. What has none waits in the campaign's room, from
-- which the scheduler takes as many as there are slots: so another rate holds for all that wait.
-- Between its slot and its going lie the lane's queue, pauses and the hours of bulk, behind which
-- slots would add up: so it is also counted when it goes (`pace`).

-- So many us' worth more than its rate may go at once.
local AT_ONCE = 1000000
-- What `turn` is of one that was counted.
local GOES = '2'

local campaigns = {}

-- Read what an operator set for a message's campaign, once in an act.
local function campaign_of(m)
  local one = campaigns[m.campaign]
  if not one then
    local f = redis.call('HMGET', KEY_CAMPAIGN .. m.campaign, 'stop', 'rate', 'slot', 'pace')
    one = {key = KEY_CAMPAIGN .. m.campaign, stop = f[1], rate = tonumber(f[2]),
      slot = tonumber(f[3] or 0), pace = tonumber(f[4] or 0)}
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

-- Count that a message of a campaign goes; return whether it may.
local function keeps_pace(one)
  local gap = 1000000 / one.rate
  -- Further ahead, as `slot` in book_slots.
  local pace = math.max(us, math.min(one.pace, us + AT_ONCE + gap))
  if pace > us + AT_ONCE then
    -- The next slot is when one may go: neither sooner, nor a whole gap later.
    local slot = pace - AT_ONCE / 2
    if slot ~= one.slot then
      one.slot = slot
      redis.call('HSET', one.key, 'slot', whole(slot))
    end
    return false
  end
  one.pace = pace + gap
  redis.call('HSET', one.key, 'pace', whole(one.pace))
  return true
end

-- Return whether a message may go as far as its campaign's rate is concerned. Those that wait go first.
local function has_turn(m)
  local one = campaign_of(m)
  if not one.rate or m.f.turn == GOES then return true end
  local has_slot = m.f.turn
    or redis.call('ZCARD', KEY_CAMPAIGN_ROOM .. m.campaign) == 0 and book_slots(one, 1) > 0
  if not (has_slot and keeps_pace(one)) then
    drop(m, 'turn')
    return false
  end
  set(m, 'turn', GOES)
  return true
end
