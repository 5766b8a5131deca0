-- A hash is read once in an act, changed in memory and written once: to come back to a field three
-- times, or to write what is dropped again, costs the server as often, and its append-only file too.
-- needs: base
--
--   f    the fields as they are to be
--   was  of those that were changed what is stored, false where nothing is

local function read_hash(key)
  local stored, f = redis.call('HGETALL', key), {}
  for i = 1, #stored, 2 do f[stored[i]] = stored[i + 1] end
  return {key = key, f = f, was = {}}
end

local function change(h, field, value)
  local f, was = h.f, h.was
  if f[field] == value then return end
  if was[field] == nil then was[field] = f[field] or false end
  f[field] = value
end

local function set(h, ...)
  local given = {...}
  for i = 1, #given, 2 do
    local value = given[i + 1]
    -- As Redis writes numbers.
    if type(value) == 'number' then value = string.format('%.17g', value) end
    change(h, given[i], value)
  end
end

local function drop(h, ...)
  for _, field in ipairs({...}) do change(h, field, nil) end
end

-- Write what was changed.
local function write(h)
  local changed, dropped = {}, {}
  for field, before in pairs(h.was) do
    local value = h.f[field]
    if value and value ~= before then
      changed[#changed + 1] = field
      changed[#changed + 1] = value
    elseif before and not value then
      dropped[#dropped + 1] = field
    end
  end
  if changed[1] then redis.call('HSET', h.key, unpack(changed)) end
  if dropped[1] then redis.call('HDEL', h.key, unpack(dropped)) end
  h.was = {}
end

-- Write all of a hash anew, which takes less than to drop most of its fields.
local function rewrite_whole(h)
  local all = {}
  for field, value in pairs(h.f) do
    all[#all + 1] = field
    all[#all + 1] = value
  end
  redis.call('DEL', h.key)
  redis.call('HSET', h.key, unpack(all))
  h.was = {}
end
