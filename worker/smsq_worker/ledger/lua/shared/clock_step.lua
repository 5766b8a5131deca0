-- Where the server's clock was set back, what is stored moves back with it. Every act of workers and
-- operators does this first. docs/operate/redis.md lists every stored moment.
-- needs: pauses rate
--
-- A moment further ahead than can have been written is from before the step, and moves back with the
-- clock: what was to last a second must not last an hour. One that is only compared with others
-- becomes the moment of the step, which keeps the order of events. The result is stored: what merely
-- counted as now when read would do so until the clock is back where it was.
-- A step forward looks like a time in which no act ran, and is believed.
--
-- KEY_SCHEMA holds, as each act reads that anyway,
--   now       the latest time that a worker's clock saw
--   back      ms by which the server's was set back at least
--   stepped   when
-- and KEY_CLOCK
--   slice     when due timers were last looked through
--   campaigns when those that wait for their campaign were
--   timers, held, notices, campaign_ends  cursors of ZSCAN: how far each has been looked through since;
--             absent when that is done. In slices, because a million messages are too many for one act

local STEP, SLICE = 500, 200
local seen, back, stepped_at = tonumber(schema[2]), tonumber(schema[3] or 0), tonumber(schema[4] or 0)

-- Return a moment of before the step by the clock of now. It may be `ahead` ms ahead.
local function moved(at, ahead)
  if at <= now then return at end
  return math.min(at - back, now + ahead)
end

-- Return the same of a moment that may have been written since.
local function bounded(at, ahead)
  if at <= now + ahead then return at end
  return moved(at, ahead)
end

-- Send times stay in the window, so that the gateway never sees more than the rate.
local function move_calls(of)
  local calls = KEY_CALLS .. of
  for _, call in ipairs(redis.call('ZRANGEBYSCORE', calls, '(' .. whole(us), '+inf')) do
    local at = tonumber(redis.call('ZSCORE', calls, call))
    redis.call('ZADD', calls, whole(math.min(at - back * 1000, us)), call)
  end
end

local function step_back()
  local function rewrite(key, change)
    local all = redis.call('HGETALL', key)
    for i = 1, #all, 2 do
      -- A malformed entry must not stop the others.
      local ok, value = pcall(change, all[i], all[i + 1])
      if ok and value then redis.call('HSET', key, all[i], value) end
    end
  end

  local function at_most_now(_, at)
    return whole(math.min(tonumber(at), now))
  end

  local function move_rate(of)
    local r = rate(of)
    opened = {}  -- What follows rewrites it.
    local ahead = {tat = 1000 + r.burst * 1000 / r.now, since = 0, newest = 0}
    rewrite(KEY_RATE .. of, function(field, at)
      if ahead[field] then return whole(moved(at / 1000, ahead[field]) * 1000) end
      if field == 'slow_at' or field == 'differs' or field == 'differed' then return whole(moved(tonumber(at), 0)) end
    end)
  end

  local function move_pauses()
    rewrite(KEY_PAUSES, function(scope, text)
      local p = cjson.decode(text)
      p.since, p.probe_at = math.min(p.since, now), moved(p.probe_at, probe_wait(scope))
      p.permit = p.permit and math.min(p.permit, now)
      return cjson.encode(p)
    end)
    rewrite(KEY_RESUMED, at_most_now)
  end

  local function move_outcomes(of)
    local outcomes = KEY_RECENT_ATTEMPTS .. of
    for i, at in ipairs(redis.call('LRANGE', outcomes, 0, -1)) do
      redis.call('LSET', outcomes, i - 1, whole(moved(tonumber(at), 0)))
    end
  end

  local function move_receivers()
    rewrite(KEY_RECEIVERS, function(_, text)
      local failures, over = string.match(text, '^(%d+) (%d+)$')
      return over and failures .. ' ' .. whole(moved(tonumber(over), DAY))
    end)
  end

  redis.call('HSET', KEY_SCHEMA, 'now', now, 'back', back, 'stepped', now)
  redis.call('HSET', KEY_CLOCK, 'timers', 0, 'held', 0, 'notices', 0, 'campaign_ends', 0, 'slice', 0)
  local accounts = redis.call('SMEMBERS', KEY_ACCOUNTS)
  for i = 0, #accounts do
    local of = i == 0 and '' or '@' .. accounts[i]
    move_calls(of)
    move_rate(of)
    move_outcomes(of)
  end
  move_pauses()
  move_receivers()
  rewrite(KEY_LANES, at_most_now)  -- Older releases go by it.
  if seen then
    redis.call('RPUSH', KEY_TOLD,
      string.format("the clock of Redis' server was set back by %.1f s or more", back / 1000))
  end
end

-- The first act of this release on a ledger comes here too: it may have happened before.
if not seen or now < seen - STEP then
  back, stepped_at = seen and seen - now or 0, now
  -- A server that is full refuses it; the act itself may be one that it lets through.
  pcall(step_back)
end
