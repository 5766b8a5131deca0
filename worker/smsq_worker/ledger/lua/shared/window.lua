-- The window of send times, in which no more than a second's worth may be. Times are in us.
-- needs: rate clock_step

-- A worker is told this long before its send time: the way from here to there is not always equally
-- long, and attempts must not crowd.
local EARLY = 15000
-- They crowd a little all the same: on a busy machine they come up to this many s off.
local JITTER = 0.015
-- The window is at most by this factor longer than a second.
local GUARD = 1.02
-- After a second without slots all workers have much to do at once, and attempts come less evenly.
local IDLE, WARM_UP, COLD = 1000000, 2000000, 0.95

-- Return the share of the rate that is used. What crowds more than the burst allows is left out, so
-- that the gateway does not see more than the limit.
local function share(r)
  if us >= r.since and us < r.since + WARM_UP then return COLD end
  local crowd = (JITTER * r.now - r.burst) / r.now
  return 1 - math.min(0.0075, math.max(0.002, crowd))
end

-- Note when slots begin to be booked again.
local function begins(r)
  if us <= r.tat + IDLE then return end
  r.since = us
  set(open(KEY_RATE .. r.of), 'since', whole(us))
end

local function look_at_newest(r)
  local h = open(KEY_RATE .. r.of)
  -- The clock was set back, too little for the rest to notice.
  if tonumber(h.f.newest or 0) <= us + 2 * EARLY then return end
  move_calls(r.of)
  set(h, 'newest', whole(us))
end

-- Return when the window has room for an attempt, at the earliest at a time.
local function room(r, at)
  look_at_newest(r)
  local in_a_second = math.floor(r.now + r.burst)
  local second = 1000000 * math.min(GUARD, in_a_second / ((1 + share(r)) / 2 * r.now))
  local last, calls = in_a_second - 1, KEY_CALLS .. r.of
  local first = redis.call('ZREVRANGE', calls, last, last, 'WITHSCORES')[2]
  r.is_full = r.is_full or first ~= nil
  return first and math.max(at, first + second) or at
end

-- Note an attempt's send time. Where a second's worth is not there yet, none is too many.
local function departs(r, at, attempt)
  local calls, h = KEY_CALLS .. r.of, open(KEY_RATE .. r.of)
  redis.call('ZADD', calls, whole(at), attempt)
  if at > tonumber(h.f.newest or 0) then set(h, 'newest', whole(at)) end
  if r.is_full and not r.kept then
    at_end(function() redis.call('ZREMRANGEBYRANK', calls, 0, -r.kept - 1) end)
  end
  r.kept = r.is_full and math.floor(r.limit + r.burst) + 1
end
