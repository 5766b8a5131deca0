-- What the scheduler does after a step of the clock, slice by slice: see clock_step.lua.
-- needs: message clock_step

-- Return how many ms ahead a message's timer can have been set; nil where that is not known.
local function farthest(m, waits, ask_ms)
  if m.state == 'sending' then return LEASE end
  if m.state == 'accepted' then return REPORT_WAIT end
  if m.state == 'deferred' then return waits end
  if m.state == 'queued' then return math.max(ask_ms, now - m.published) end
end

local function set_earlier(m, field, at, to)
  if to < at then set(m, field, whole(to)) end
end

-- Where a message was entered, or was due, before the step, its ttl moves with that. One that is
-- scheduled is due at its time, whatever the clock did.
local function move_message(m, waits)
  local enqueued, due = tonumber(m.f.enqueued), tonumber(m.f.due)
  set_earlier(m, 'enqueued', enqueued, moved(enqueued, 0))
  if m.published > now then
    m.published = stepped_at
    set(m, 'published', whole(stepped_at))
  end
  local is_scheduled = due and m.state == 'deferred' and m.n == 0 and not waits
  if is_scheduled then return end
  local began = due or enqueued
  local to = moved(began, 0)
  if to < began then
    m.expires = m.expires - (began - to)
    set(m, 'expires', whole(m.expires))
    if due then set(m, 'due', whole(to)) end
  end
end

local MOVE = {
  timers = {KEY_TIMERS, function(id, at, ask_ms)
    local m = load(id)
    if not m or not is_live(m) then return at end
    local waits = tonumber(m.f.waits)
    move_message(m, waits)
    save(m)
    local ahead = farthest(m, waits, ask_ms)
    if ahead then at = bounded(at, ahead) end
    if m.state == 'queued' or m.state == 'deferred' then at = math.min(at, m.expires) end
    local index = index_of(m)
    if index then redis.call('ZADD', index, 'XX', whole(at), id) end
    return at
  end},
  held = {KEY_HELD, function(id, at)
    local m = load(id)
    if m then
      move_message(m)
      save(m)
    end
    return moved(at, 0)
  end},
  -- One that comes too early finds its endpoint in backoff, or another worker at it.
  notices = {KEY_NOTICES, function(_, at) return moved(at, 0) end},
  -- When one is told of, and forgotten, follows from its end.
  campaign_ends = {KEY_CAMPAIGNS, function(name, at)
    local ended = tonumber(redis.call('HGET', KEY_CAMPAIGN .. name, 'ended') or 0)
    local to = moved(ended, 0)
    if to < ended then redis.call('HSET', KEY_CAMPAIGN .. name, 'ended', whole(to)) end
    return at - (ended - to)
  end},
}

-- Look through a slice; return whether there may be more.
local function sweep(ask_ms)
  redis.call('HSET', KEY_SCHEMA, 'now', now)
  local cursors, is_more = read_fields(KEY_CLOCK), false
  for field, one in pairs(MOVE) do
    local cursor = cursors[field]
    if cursor then
      local key, move = unpack(one)
      local slice = redis.call('ZSCAN', key, cursor, 'COUNT', SLICE)
      for i = 1, #slice[2], 2 do
        local id, at = slice[2][i], tonumber(slice[2][i + 1])
        local ok, to = pcall(move, id, at, ask_ms)
        if ok and to < at then redis.call('ZADD', key, 'XX', whole(to), id) end
      end
      if slice[1] == '0' then
        redis.call('HDEL', KEY_CLOCK, field)
      else
        redis.call('HSET', KEY_CLOCK, field, slice[1])
        is_more = true
      end
    end
  end
  return is_more
end
