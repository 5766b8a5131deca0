-- Look through a slice of the ledger for messages that meet conditions; return them, or count them.
--
-- ARGV[1] the hour whose list is looked through, or 'all' for whatever the ledger has
-- ARGV[2] ARGV[3] the first and the last place in that list; a cursor and how many keys, of all
-- ARGV[4] conditions as JSON: {patterns = {field = {pattern, ...}}, since, till (ms, 0 for none),
--   masked (a number, "" for any), digests of it, keys (ends of the field key), holders (ids)}
-- ARGV[5] the fields by which they are counted as JSON; [] to return them
-- Returns {next cursor, how many were looked at, how many matched by the mask of their number alone,
-- then id, enqueued, place in the list, ... or values as JSON, count, ...}
--
-- One act for a slice, because a command for each message would cost the server ten times as much;
-- and no more than a slice, because all clients wait meanwhile. A message that comes or ends between
-- two slices may be missed, or come twice.

local LANE = {o = 'otp', n = 'notice', b = 'bulk'}
local HOUR = 3600000
local WAITING = {queued = true, deferred = true, held = true}

local from, to, asked, by = ARGV[2], ARGV[3], cjson.decode(ARGV[4]), cjson.decode(ARGV[5])

local function set_of(list)
  local set = {}
  for _, one in ipairs(list) do set[one] = true end
  return set
end

local digests, key_ends, holders = set_of(asked.digests), set_of(asked.keys), set_of(asked.holders)
local by_mask = 0

-- What is compared or counted by, and no more: it is most of what a slice costs.
local fields = {'fold', 'enqueued', 'state'}
for name in pairs(asked.patterns) do fields[#fields + 1] = name end
for _, name in ipairs(by) do fields[#fields + 1] = name end
for _, name in ipairs(asked.masked ~= '' and {'phone', 'who'} or {}) do fields[#fields + 1] = name end
if asked.keys[1] then fields[#fields + 1] = 'key' end
local names = set_of(fields)
local is_state_asked = asked.patterns.state or asked.patterns.reason or set_of(by).state or set_of(by).reason
if is_state_asked and not names.campaign then fields[#fields + 1] = 'campaign' end

local stops = {}  -- of campaigns

-- A message that waits in a cancelled campaign has ended, though no scheduler has come to it: as
-- `apparent` of producer/smsq/campaigns.py.
local function end_as_campaign(f)
  local name = f.campaign
  if stops[name] == nil then stops[name] = redis.call('HGET', KEY_CAMPAIGN .. name, 'stop') end
  if stops[name] ~= 'cancelled' then return end
  f.state = 'cancelled'
  local all = redis.call('HGETALL', KEY_MESSAGE .. f.id)
  local has = {}
  for i = 1, #all, 2 do has[all[i]] = all[i + 1] end
  for one in pairs(has) do
    local n = one:match('^(%d+):at$') or one:match('^(%d+):outcome$')
    local outcome = n and has[n .. ':outcome']
    if n and outcome ~= 'not_sent' and outcome ~= 'refused' then
      f.state, f.reason = 'failed', 'local:cancelled'
    end
  end
end

local function read(id)
  local values, f = redis.call('HMGET', KEY_MESSAGE .. id, unpack(fields)), {id = id}
  for i, name in ipairs(fields) do f[name] = values[i] or '' end
  if f.fold ~= '' then
    local enqueued, _, _, _, lane, phone, stat =
      f.fold:match('^(%S+) (%S*) (%S*) (%S+) (%S+) (%S*) (.*)$')
    f.enqueued, f.lane, f.stat = enqueued, LANE[lane], stat
    f.phone = phone:gsub('^...', '%0****')
  end
  f.enqueued = tonumber(f.enqueued)
  if is_state_asked and f.campaign ~= '' and WAITING[f.state] then end_as_campaign(f) end
  return f.state ~= '' and f.enqueued and f
end

local function is_in_time(f)
  return f.enqueued >= asked.since and (asked.till == 0 or f.enqueued < asked.till)
end

local function meets(f)
  for name, patterns in pairs(asked.patterns) do
    local met = false
    for _, pattern in ipairs(patterns) do met = met or f[name]:find(pattern) ~= nil end
    if not met then return false end
  end
  return true
end

-- Return the key and the digest of the number that are kept of one that may be redone, see ends.lua.
local MAY_BE_REDONE = {failed = 1, expired = 1, unreported = 1}
local function kept_of(f)
  local payload = MAY_BE_REDONE[f.state] and redis.call('GET', KEY_PAYLOAD .. f.id)
  local is_read, kept = pcall(cjson.decode, payload or '')
  if not is_read or type(kept) ~= 'table' then return '', '' end
  return tostring(kept[3] or ''), tostring(kept[5] or '')
end

local function has_key(f)
  if not asked.keys[1] or holders[f.id] then return true end
  local key = f.key ~= '' and f.key or kept_of(f)
  return key_ends[key:match('[^:]*$')] or false
end

local function has_number(f)
  if asked.masked == '' then return true end
  local who = f.who
  if who == '' then
    if f.phone ~= asked.masked then return false end
    who = select(2, kept_of(f))
  end
  if who ~= '' then return digests[who] or false end
  by_mask = by_mask + 1
  return true
end

local ids, cursor = {}, '0'  -- of SCAN, whose end is 0, too
if ARGV[1] == 'all' then
  local slice = redis.call('SCAN', from, 'MATCH', KEY_MESSAGE .. '*', 'COUNT', to)
  cursor = slice[1]
  for i, key in ipairs(slice[2]) do ids[i] = key:sub(#KEY_MESSAGE + 1) end
else
  ids = redis.call('LRANGE', KEY_IDS_OF .. ARGV[1], from, to)
end

local found, counts = {}, {}
for place, id in ipairs(ids) do
  local f = read(id)
  if f and is_in_time(f) and meets(f) and has_key(f) and has_number(f) then
    if by[1] then
      local values = {}
      for i, name in ipairs(by) do
        values[i] = name == 'hour' and math.floor(f.enqueued / HOUR) or f[name]
      end
      local name = cjson.encode(values)
      counts[name] = (counts[name] or 0) + 1
    else
      found[#found + 1] = id
      found[#found + 1] = string.format('%.0f', f.enqueued)
      found[#found + 1] = from + place - 1
    end
  end
end
for name, count in pairs(counts) do
  found[#found + 1] = name
  found[#found + 1] = count
end
return {cursor, #ids, by_mask, unpack(found)}
