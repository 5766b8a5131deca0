-- A message: read, moved from state to state, put under a timer.
-- needs: base

local FINAL = {delivered = 1, failed = 1, expired = 1, unreported = 1, duplicate = 1,
  cancelled = 1}

-- Read a message; nil where there is none.
local function load(id)
  local key = KEY_MESSAGE .. id
  local f = redis.call('HMGET', key, 'state', 'lane', 'n', 'resends', 'expires', 'hold',
    'otherwise', 'published', 'overtaken', 'doubt', 'template', 'who', 'fold', 'trace', 'stop',
    'campaign', 'account')
  if not f[1] then return nil end
  return {
    id = id, key = key, state = f[1], lane = f[2], n = tonumber(f[3] or 0),
    resends = tonumber(f[4] or 0), expires = tonumber(f[5] or 0), hold_on_doubt = f[6],
    fallback_reason = f[7], published = tonumber(f[8] or 0), overtaken = f[9],
    doubt = f[10], template = f[11], phone_hash = f[12], fold = f[13],
    trace = f[14] or nil, stop = f[15], campaign = f[16] or '', account = f[17] or 'default',
  }
end

-- Return whether an act may move a message on. One in a state that only a newer release knows is
-- left to that.
local function is_live(m)
  return KNOWN[m.state] and not FINAL[m.state]
end

local function set(m, ...)
  redis.call('HSET', m.key, ...)
end

-- Return the index of the timers that must not wait behind a million others: leases, and what is to
-- go again of the lanes before bulk. Each is in KEY_TIMERS too, which alone is the truth: older
-- releases know no index.
local INDEXED = {otp = KEY_OTP_TIMERS, notice = KEY_NOTICE_TIMERS}
local function index_of(m)
  if m.state == 'sending' then return KEY_LEASES end
  return m.state == 'deferred' and INDEXED[m.lane]
end

local function timer(m, at)
  redis.call('ZADD', KEY_TIMERS, at, m.id)
  local index = index_of(m)
  if index then redis.call('ZADD', index, at, m.id) end
end

-- Change the state, only along a way of the table; fields and their values change with it.
local function move(m, to, ...)
  if not NEXT[m.state .. ' ' .. to] then
    error('smsq: no way from ' .. m.state .. ' to ' .. to)
  end
  local index = index_of(m)
  if index then redis.call('ZREM', index, m.id) end
  if m.state == 'held' then redis.call('ZREM', KEY_HELD, m.id) end
  if m.state == 'deferred' then redis.call('ZREM', KEY_WAITING .. m.template, m.id) end
  if not FINAL[m.state] then redis.call('HINCRBY', KEY_LIVE, m.lane .. ':' .. m.state, -1) end
  if not FINAL[to] then redis.call('HINCRBY', KEY_LIVE, m.lane .. ':' .. to, 1) end
  m.state = to
  set(m, 'state', to, ...)
  count('messages:' .. m.lane .. ':' .. to)
end

-- Wait, but never past the ttl's end.
local function defer(m, wait_ms)
  if m.state ~= 'deferred' then move(m, 'deferred') end
  set(m, 'waits', wait_ms)
  timer(m, math.min(now + wait_ms, m.expires))
end

-- Wait until the template's pause is over.
local function wait_for_template(m)
  defer(m, m.expires - now)
  redis.call('ZADD', KEY_WAITING .. m.template, now, m.id)
end
