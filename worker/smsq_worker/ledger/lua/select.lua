-- Look through a slice of the ledger for messages that meet conditions; return them, or count them.
--
-- ARGV[1] the hour whose list is looked through, or 'all' for whatever the ledger has
-- ARGV[2] ARGV[3] the first and the last place in that list; a cursor and how many keys, of all
-- ARGV[4] conditions as JSON: {patterns = {field = {pattern, ...}}, since, till (ms, 0 for none),
--   masked (a number, "" for any), digests of it, keys (ends of the field key), holders (ids)}
-- ARGV[5] the fields by which they are counted as JSON; [] to return them
-- Returns {next cursor, how many matched by the mask of their number alone, the server's time when it
-- began, then id, enqueued, place in the list, ... or values as JSON, count, ...}
--
-- One act for a slice, because a command for each message would cost the server ten times as much;
-- and no more than a slice, because all clients wait meanwhile. A message that comes or ends between
-- two slices may be missed, or come twice.

local LANE = {o = 'otp', n = 'notice', b = 'bulk'}
local HOUR = 3600000
local WAITING = {queued = true, deferred = true, held = true}

local from, to, asked, by = ARGV[2], ARGV[3], cjson.decode(ARGV[4]), cjson.decode(ARGV[5])
local call, unpack = redis.call, unpack

local function set_of(list)
  local set = {}
  for _, one in ipairs(list) do set[one] = true end
  return set
end

local digests, key_ends, holders = set_of(asked.digests), set_of(asked.keys), set_of(asked.holders)
local by_mask = 0

-- What is compared or counted by, and no more: it is most of what a slice costs. A message is the list
-- of their values, of which those that it does not have are false, and this says at which place each is.
local fields, at = {}, {}
local function needs(name)
  if at[name] then return end
  fields[#fields + 1] = name
  at[name] = #fields
end

local grouped = set_of(by)
needs('state')
for name in pairs(asked.patterns) do needs(name) end
for name in pairs(grouped) do
  if name ~= 'hour' then needs(name) end
end
if asked.masked ~= '' then
  needs('phone')
  needs('who')
end
if asked.keys[1] then needs('key') end
local is_state_asked = asked.patterns.state or asked.patterns.reason or grouped.state or grouped.reason
if is_state_asked then needs('campaign') end
local is_time_asked = asked.since > 0 or asked.till > 0
if is_time_asked or grouped.hour or not by[1] then needs('enqueued') end
if at.enqueued or at.lane or at.phone or at.stat then needs('fold') end

local stops = {}  -- of campaigns

-- A message that waits in a cancelled campaign has ended, though no scheduler has come to it: as
-- `apparent` of producer/smsq/campaigns.py.
local function end_as_campaign(id, f)
  local name = f[at.campaign]
  if stops[name] == nil then stops[name] = call('HGET', KEY_CAMPAIGN .. name, 'stop') end
  if stops[name] ~= 'cancelled' then return end
  f[at.state] = 'cancelled'
  local all = call('HGETALL', KEY_MESSAGE .. id)
  local has = {}
  for i = 1, #all, 2 do has[all[i]] = all[i + 1] end
  for one in pairs(has) do
    local n = one:match('^(%d+):at$') or one:match('^(%d+):outcome$')
    local outcome = n and has[n .. ':outcome']
    if n and outcome ~= 'not_sent' and outcome ~= 'refused' then
      f[at.state] = 'failed'
      if at.reason then f[at.reason] = 'local:cancelled' end
    end
  end
end

-- Put what is kept folded where it is when it is not, see compaction.lua. Returns whether that is what it
-- should be.
local function unfold(f)
  local enqueued, _, _, _, lane, phone, stat =
    f[at.fold]:match('^(%S+) (%S*) (%S*) (%S+) (%S+) (%S*) (.*)$')
  if not enqueued then return false end
  if at.enqueued then f[at.enqueued] = enqueued end
  if at.lane then f[at.lane] = LANE[lane] end
  if at.stat then f[at.stat] = stat end
  if at.phone then f[at.phone] = phone:gsub('^...', '%0****') end
  return true
end

-- Read a message; nil where there is none, or none that can be understood: it must not hide the others.
local function read(id)
  local f = redis.pcall('HMGET', KEY_MESSAGE .. id, unpack(fields))
  local state = f[1]
  if not state then return nil end
  if at.fold and f[at.fold] and not unfold(f) then return nil end
  if at.enqueued then
    f[at.enqueued] = tonumber(f[at.enqueued])
    if not f[at.enqueued] then return nil end
  end
  if is_state_asked and f[at.campaign] and WAITING[state] then end_as_campaign(id, f) end
  return f
end

local function is_in_time(f)
  if not is_time_asked then return true end
  local enqueued = f[at.enqueued]
  return enqueued >= asked.since and (asked.till == 0 or enqueued < asked.till)
end

-- Most messages have the same values, so it is noted of each whether it meets the patterns.
local conditions = {}
for name, patterns in pairs(asked.patterns) do
  conditions[#conditions + 1] = {place = at[name], patterns = patterns, known = {}}
end

local function meets(f)
  for i = 1, #conditions do
    local one = conditions[i]
    local value = f[one.place] or ''
    local met = one.known[value]
    if met == nil then
      met = false
      for _, pattern in ipairs(one.patterns) do met = met or value:find(pattern) ~= nil end
      one.known[value] = met
    end
    if not met then return false end
  end
  return true
end

-- Return the key and the digest of the number that are kept of one that may be redone, see ends.lua.
local MAY_BE_REDONE = {failed = 1, expired = 1, unreported = 1}
local function kept_of(id, f)
  local payload = MAY_BE_REDONE[f[at.state]] and call('GET', KEY_PAYLOAD .. id)
  local is_read, kept = pcall(cjson.decode, payload or '')
  if not is_read or type(kept) ~= 'table' then return '', '' end
  return tostring(kept[3] or ''), tostring(kept[5] or '')
end

local function has_key(id, f)
  if not asked.keys[1] or holders[id] then return true end
  local key = f[at.key] or kept_of(id, f)
  return key_ends[key:match('[^:]*$')] or false
end

local function has_number(id, f)
  if asked.masked == '' then return true end
  local who = f[at.who]
  if not who then
    if f[at.phone] ~= asked.masked then return false end
    who = select(2, kept_of(id, f))
  end
  if who ~= '' then return digests[who] or false end
  by_mask = by_mask + 1
  return true
end

-- Return an id of a list of them, see enqueue.lua.
local function unpacked(id)
  if id:byte() ~= 0 then return id end
  return string.format('%08x-%04x-%04x-%04x-%04x%08x', struct.unpack('>I4I2I2I2I2I4', id, 2))
end

local ids, cursor = {}, '0'  -- of SCAN, whose end is 0, too
if ARGV[1] == 'all' then
  local slice = call('SCAN', from, 'MATCH', KEY_MESSAGE .. '*', 'COUNT', to)
  cursor = slice[1]
  for i, key in ipairs(slice[2]) do ids[i] = key:sub(#KEY_MESSAGE + 1) end
else
  for i, id in ipairs(call('LRANGE', KEY_IDS_OF .. ARGV[1], from, to)) do ids[i] = unpacked(id) end
end

local function value_of(f, name)
  if name == 'hour' then return math.floor(f[at.enqueued] / HOUR) end
  return f[at[name]] or ''
end

-- Groups are counted in a tree, of which each level goes by the values of one field.
local groups, counted = {}, {}
local function count(f)
  local group = groups
  for i = 1, #by do
    local value = value_of(f, by[i])
    local inner = group[value]
    if not inner then
      inner = {}
      group[value] = inner
    end
    group = inner
  end
  if not group.count then
    local values = {}
    for i = 1, #by do values[i] = value_of(f, by[i]) end
    group.count, group.values = 0, values
    counted[#counted + 1] = group
  end
  group.count = group.count + 1
end

local found = {}
local function note(id, f, place)
  found[#found + 1] = id
  found[#found + 1] = string.format('%.0f', f[at.enqueued])
  found[#found + 1] = place
end

for i = 1, #ids do
  local id = ids[i]
  local f = read(id)
  if f and is_in_time(f) and meets(f) and has_key(id, f) and has_number(id, f) then
    if by[1] then count(f) else note(id, f, from + i - 1) end
  end
end
for _, group in ipairs(counted) do
  found[#found + 1] = cjson.encode(group.values)
  found[#found + 1] = group.count
end
return {cursor, by_mask, call('TIME'), unpack(found)}
