-- What the scheduler does for campaigns, slice by slice: who waits goes on, who was cancelled ends, and
-- what is over is told and forgotten.
-- needs: set_aside ends campaign_rate
--
-- KEY_CAMPAIGN_SWEEP has the timers that a sweep has come to (`which`, `cursor`), when it did (`at`), and
-- 'name:<name>' of the campaigns for which it runs. `again`: another was cancelled meanwhile, whose
-- messages may lie behind it.

-- So many are ended, or looked at, in a slice of the sweep, and slices are so far apart, for all workers
-- together. An otp waits for half a slice, if for any: more slices keep it less than larger ones.
local ENDED_AT_ONCE = 20
local LOOKED_AT_ONCE = 300
local LOOK = 10
local SWEEP_MS = 10
-- So many of a campaign, and of all, are let go on, in slices that are so far apart.
local RELEASED_AT_ONCE = 50
local RELEASED_OF_ALL = 100
local RELEASE_MS = 20
-- There may be thousands: so many of them, at random, have their turn.
local ROOMS_AT_ONCE = 40

local function may_follow(at, ms)
  local since = now - tonumber(at or 0)
  return since < 0 or since >= ms
end

-- Tell that a campaign has ended, once; later forget it.
local function look_at_ended(name)
  local key = KEY_CAMPAIGN .. name
  local f = read_fields(key)
  if f.ended and not f.told then
    redis.call('HSET', key, 'told', 1)
    redis.call('ZADD', KEY_CAMPAIGNS, f.ended + RETENTION, name)
    if WEBHOOK then
      f.id, f.state = name, 'finished'
      local outcome = 'finished:' .. name
      redis.call('HSET', KEY_CALLBACK .. outcome, 'outcome', cjson.encode(f), 'since', now, 'pending', 1)
      redis.call('ZADD', KEY_NOTICES, now, 'webhook:' .. outcome)
    end
  elseif f.ended and now < f.ended + RETENTION then  -- There was late news.
    redis.call('ZADD', KEY_CAMPAIGNS, f.ended + RETENTION, name)
  elseif f.ended or not f.at then
    local caller = redis.call('HGET', KEY_CAMPAIGN_CALLERS, 'of ' .. name)
    if caller then
      redis.call('HDEL', KEY_CAMPAIGN_CALLERS, 'of ' .. name)
      if redis.call('HINCRBY', KEY_CAMPAIGN_CALLERS, caller, -1) <= 0 then
        redis.call('HDEL', KEY_CAMPAIGN_CALLERS, caller)
      end
    end
    redis.call('DEL', key, KEY_CAMPAIGN_ROOM .. name)
    redis.call('HDEL', KEY_STOPS, 'campaign:' .. name)
    redis.call('ZREM', KEY_CAMPAIGNS, name)
    redis.call('SREM', KEY_CAMPAIGN_ROOMS, name)
  else
    redis.call('ZADD', KEY_CAMPAIGNS, 'inf', name)
  end
  return true
end

local function let_go(id, is_slower, wake)
  local m = load(id)
  if not m or m.state ~= 'deferred' then return true end
  if now >= m.expires then
    expire(m)
  else
    if is_slower then set(m, 'turn', 1) end
    wake(m)
  end
  save(m)
  return true
end

-- Let go on what waits for a campaign, so many at most. Returns {how many did, ms until more can}, the
-- latter only where something waits for that.
local function release_of(name, wake, at_most)
  local room, one = KEY_CAMPAIGN_ROOM .. name, campaign_of({campaign = name})
  local waiting = redis.call('ZCARD', room)
  if one.stop or waiting == 0 then  -- Who resumes it puts it in again.
    redis.call('SREM', KEY_CAMPAIGN_ROOMS, name)
    return {0}
  end
  local n = math.min(waiting, at_most)
  if one.rate then n = book_slots(one, n) end
  local ids = n > 0 and redis.call('ZPOPMIN', room, n) or {}
  for i = 1, #ids, 2 do
    if not apart('message', ids[i], let_go, ids[i], one.rate, wake) then
      redis.call('ZADD', KEY_TIMERS, 'XX', now + AGAIN_MS, ids[i])
    end
  end
  if n == waiting then return {n} end
  return {n, one.rate and n < at_most and math.ceil(1000 / one.rate) or 0}
end

local WAITING_STATES = {queued = 1, deferred = 1, held = 1}

-- End a message if its campaign was cancelled. Returns whether that was so.
local function end_if_cancelled(id)
  local state, campaign = unpack(redis.call('HMGET', KEY_MESSAGE .. id, 'state', 'campaign'))
  if not campaign or not WAITING_STATES[state] then return false end
  if campaign_of({campaign = campaign}).stop ~= 'cancelled' then return false end
  local m = load(id)
  cancel(m)
  save(m)
  return true
end

local function sweep_slice(s)
  local which, cursor, ended, looked = s.which or KEY_TIMERS, s.cursor or '0', 0, 0
  repeat
    local found = redis.call('ZSCAN', which, cursor, 'COUNT', LOOK)
    cursor = found[1]
    for i = 1, #found[2], 2 do
      if apart('message', found[2][i], end_if_cancelled, found[2][i]) then ended = ended + 1 end
      looked = looked + 1
    end
  until cursor == '0' or ended >= ENDED_AT_ONCE or looked >= LOOKED_AT_ONCE
  if cursor ~= '0' then return which, cursor end
  if which == KEY_TIMERS then return KEY_HELD, '0' end
end

-- Returns whether there may be more to end.
local function sweep_cancelled()
  local s = read_fields(KEY_CAMPAIGN_SWEEP)
  if not next(s) then return false end
  if not may_follow(s.at, SWEEP_MS) then return true end
  local which, cursor = sweep_slice(s)
  if which then
    redis.call('HSET', KEY_CAMPAIGN_SWEEP, 'which', which, 'cursor', cursor, 'at', now)
  elseif s.again then
    redis.call('HDEL', KEY_CAMPAIGN_SWEEP, 'which', 'cursor', 'again')
  else
    redis.call('DEL', KEY_CAMPAIGN_SWEEP)
    return false
  end
  return true
end

-- Returns ms until there is more to do for campaigns, nil where nothing is known.
local function look_after_campaigns(wake)
  if redis.call('EXISTS', KEY_CAMPAIGNS, KEY_CAMPAIGN_SWEEP) == 0 then return nil end
  for _, name in ipairs(redis.call('ZRANGEBYSCORE', KEY_CAMPAIGNS, '-inf', now, 'LIMIT', 0, 10)) do
    apart('campaign', name, look_at_ended, name)
  end
  local soonest = sweep_cancelled() and 0 or nil
  local rooms = redis.call('SCARD', KEY_CAMPAIGN_ROOMS)
  if rooms > 0 and may_follow(redis.call('HGET', KEY_CLOCK, 'campaigns'), RELEASE_MS) then
    redis.call('HSET', KEY_CLOCK, 'campaigns', now)
    rooms = redis.call('SRANDMEMBER', KEY_CAMPAIGN_ROOMS, ROOMS_AT_ONCE)
    local left = RELEASED_OF_ALL
    for i, name in ipairs(rooms) do
      local share = math.min(RELEASED_AT_ONCE, math.ceil(left / (#rooms - i + 1)))
      local n, ms = unpack(apart('campaign', name, release_of, name, wake, share) or {0})
      left = left - n
      if ms and (not soonest or ms < soonest) then soonest = ms end
    end
  end
  return soonest
end
