-- Counting by hour what became of what each account accepted, where there are several: for
-- `smsq accounts` and for routes that prefer delivery. ledger/quality.py reads it.
-- needs: write_behind
--
-- The hour is that in which the attempt began, whenever its report comes: a rate of an hour is of those
-- sent in it. A field is "<lane>\t<what>\t@<account>\t<template>"; of an attempt that is not its
-- message's first the lane ends in "+", as what another account did not take is no fair sample. What:
-- accepted; failed, by its first report; delivered:<bucket>, once a message; ms, how long those took.
-- Repeated reports are not counted. Test messages are not.

local HOUR, HOURS_KEPT, HOUR_FIELDS = 3600000, 48, 5000
-- In s. ledger/quality.py knows the third: what came within 15 minutes came in time.
local IN_TIME = {10, 60, 900}

-- Beyond the bound it is counted as of template "other", of which there are few fields.
local function write_hour(hour, sums)
  local key, is_new = KEY_QUALITY .. hour, false
  for field, by in pairs(sums) do
    if by ~= 0 and redis.call('HINCRBY', key, field, by) == by then
      local fields = redis.call('HLEN', key)
      is_new = is_new or fields == 1
      if fields > HOUR_FIELDS then
        redis.call('HDEL', key, field)
        redis.call('HINCRBY', key, field:match('^.*\t') .. 'other', by)
      end
    end
  end
  if is_new then redis.call('PEXPIREAT', key, whole((hour + 1 + HOURS_KEPT) * HOUR)) end
end

local hours = {}

local function count_for_hour(m, n, begun, of, what, by)
  local hour = math.floor(tonumber(begun) / HOUR)
  if hour < math.floor(now / HOUR) - HOURS_KEPT then return end
  if not hours[hour] then
    hours[hour] = {}
    count_at_end(hours, hour, 'an hour', write_hour)
  end
  add_up(hours[hour], table.concat({m.lane .. (n == 1 and '' or '+'), what, of == '' and '@' or of,
    m.template or ''}, '\t'), by)
end

-- Count what a report did to a message that was in a state, and whose attempt had one with a stat
-- before. One that first failed and was delivered later is counted as both.
local function count_report_for_hour(m, n, begun, of, r, before, known)
  if m.state == 'delivered' and before ~= 'delivered' then
    local ms, i = math.max(0, now - begun), 1
    while IN_TIME[i] and ms > IN_TIME[i] * 1000 do i = i + 1 end
    count_for_hour(m, n, begun, of, 'delivered:' .. (IN_TIME[i] or 'inf'), 1)
    count_for_hour(m, n, begun, of, 'ms', ms)
  elseif not known and NEXT[before] and (r.class == 'permanent' or r.class == 'transient') then
    count_for_hour(m, n, begun, of, 'failed', 1)
  end
end
