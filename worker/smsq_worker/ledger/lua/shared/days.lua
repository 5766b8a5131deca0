-- Counting messages by the day of their entry, for `smsq report`: ledger/days.py reads it.
-- needs: write_behind
--
-- A field is "<lane>\t<what>\t<template>". What: sent, when the gateway first accepted it; how it ended:
-- delivered:<bucket>, the bucket of its time to delivery, failed:<reason>, expired, unreported,
-- cancelled; doubt, while it may have been sent and nobody knows. A late report moves it from one end to
-- another. Besides: since, when the day was first counted; templates, how many; "template\t<name>".
-- Test messages and duplicates are not counted.

-- A day is Asia/Shanghai's, which is 8 h ahead, without summer time; it is kept for so many.
local DAY_AHEAD, DAYS_KEPT = 28800000, 40
local DAY_TEMPLATES, DAY_FIELDS = 1000, 20000
local COUNTED = {failed = 1, expired = 1, unreported = 1, cancelled = 1, delivered = 1}

-- Return the field in which a new one is counted beyond the bounds: fewer than 80 are.
local function as_other(field)
  local lane, what = field:match('^(.-)\t(.-)\t')
  what = what:gsub('^failed:report:.*', 'failed:report:other')
  if not what:find('^failed:report:') then what = what:gsub('^failed:.*', 'failed:other') end
  return lane .. '\t' .. what .. '\tother'
end

-- Return whether a day has room for a field that is new in it.
local function has_room(key, day, field)
  if redis.call('HLEN', key) > DAY_FIELDS then return false end
  local mark = 'template\t' .. field:match('[^\t]*$')
  if redis.call('HEXISTS', key, mark) == 1 then return true end
  local templates = tonumber(redis.call('HGET', key, 'templates') or 0)
  if templates >= DAY_TEMPLATES then return false end
  redis.call('HSET', key, mark, 1, 'templates', templates + 1)
  if templates == 0 then
    redis.call('HSETNX', key, 'since', now)
    -- Last, for it deletes the day where that is over.
    redis.call('PEXPIREAT', key, whole((day + 1 + DAYS_KEPT) * DAY - DAY_AHEAD))
  end
  return true
end

local function write_day(day, sums)
  local key = KEY_DAY .. day
  for field, by in pairs(sums) do
    if by ~= 0 and redis.call('HINCRBY', key, field, by) == by and not has_room(key, day, field) then
      redis.call('HDEL', key, field)
      redis.call('HINCRBY', key, as_other(field), by)
    end
  end
end

local days = {}

local function add_to_day(m, what, by)
  local day = math.floor((m.entered + DAY_AHEAD) / DAY)
  if not days[day] then
    days[day] = {}
    count_at_end(days, day, 'a day', write_day)
  end
  add_up(days[day], m.lane .. '\t' .. what .. '\t' .. (m.template or ''), by)
end

-- Return as what a message is counted that has come to an end.
local function end_of(m)
  if m.state == 'failed' then return 'failed:' .. (m.f.reason or '') end
  return COUNTED[m.state] and m.state
end

-- Return the bucket of a delivered message's time since the gateway accepted it, or its entry.
local function delivery_of(m)
  local after = m.f.fold and m.f.fold:match('^%d+ (%d+)')
  local took = now - (m.f.accepted or m.entered + (after or 0))
  local bounds, i = BOUNDS.delivery, 1
  while bounds[i] and took > bounds[i] do i = i + 1 end
  return 'delivered:' .. (bounds[i] or 'inf')
end

local function was_accepted(f)
  return f.accepted or f.fold and f.fold:find('^%d+ %d')
end

-- Return whether an attempt may have sent it of which nothing is known. Only the last attempt, or the
-- one that stands for those undone, brings a doubt; any may lose it.
local function has_doubt(m)
  local f = m.f
  if m.state == 'delivered' then return false end
  if f[m.n .. ':outcome'] == 'maybe_sent' or f['0:outcome'] == 'maybe_sent' then return true end
  for n = 1, f.doubted and m.n - 1 or 0 do
    if f[n .. ':outcome'] == 'maybe_sent' then return true end
  end
  return false
end

-- Note as what its day counts a message that was read.
local function note_for_day(m)
  local f = m.f
  m.entered = tonumber(f.enqueued or f.fold and f.fold:match('^%d+') or now)
  m.was_end, m.was_sent = end_of(m), m.state == 'delivered' or was_accepted(f)
end

-- Count for its day what an act has made of a message, before it is written.
local function count_for_day(m)
  local f = m.f
  if f.test then return end
  local ends = end_of(m)
  if not m.was_sent and (ends == 'delivered' or was_accepted(f)) then
    m.was_sent = true
    add_to_day(m, 'sent', 1)
  end
  if ends ~= m.was_end then
    if m.was_end then add_to_day(m, m.was_end, -1) end
    if ends then add_to_day(m, ends == 'delivered' and delivery_of(m) or ends, 1) end
    m.was_end = ends
  end
  -- One that was read folded, and not unfolded, is as it was.
  if not (m.put or m.dropped or m.is_anew) then return end
  local doubt = has_doubt(m)
  if doubt and not f.doubted then
    set(m, 'doubted', 1)
    add_to_day(m, 'doubt', 1)
  elseif f.doubted and not doubt then
    drop(m, 'doubted')
    add_to_day(m, 'doubt', -1)
  end
end

-- Count one that a producer ended in a state: it may not write what all have in common. Where it came to
-- another end since, it was cancelled, and has been taken back from that.
local function count_end_of_new(m, state)
  local ends = m.state == state and end_of(m)
    or m.state ~= state and (state == 'failed' and 'failed:local:cancelled' or COUNTED[state] and state)
  if ends and m.lane and not m.f.test then add_to_day(m, ends, 1) end
end
