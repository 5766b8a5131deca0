-- A hash is read once in an act, changed in memory and written once: to come back to a field three
-- times, or to write what is dropped again, costs the server as often, and its append-only file too.
-- needs: base
--
--   key, f   its name, and its fields as they are to be
--   put      fields and values to write, in order; dropped: names of fields to drop
--   is_anew  all of it is to be written, so that no change needs to be noted

local texts = {}

-- Return a number as Redis writes it. In an act most are the same: its time, and 1.
local function text_of(number)
  local text = texts[number]
  if not text then
    text = string.format('%.17g', number)
    texts[number] = text
  end
  return text
end

local function read_fields(key)
  local stored, f = redis.call('HGETALL', key), {}
  for i = 1, #stored, 2 do f[stored[i]] = stored[i + 1] end
  return f
end

local function set(h, ...)
  local f, given = h.f, {...}
  for i = 1, #given, 2 do
    local field, value = given[i], given[i + 1]
    if type(value) == 'number' then value = text_of(value) end
    if f[field] ~= value then
      f[field] = value
      if not h.is_anew then
        local put = h.put or {}
        put[#put + 1] = field
        put[#put + 1] = value
        h.put = put
      end
    end
  end
end

local function drop(h, ...)
  local f, given = h.f, {...}
  for i = 1, #given do
    local field = given[i]
    if f[field] then
      f[field] = nil
      if not h.is_anew then
        h.dropped = h.dropped or {}
        h.dropped[field] = true
      end
    end
  end
end

local function write(h)
  if h.put then redis.call('HSET', h.key, unpack(h.put)) end
  if h.dropped then
    local dropped = {}
    for field in pairs(h.dropped) do
      if not h.f[field] then dropped[#dropped + 1] = field end
    end
    if dropped[1] then redis.call('HDEL', h.key, unpack(dropped)) end
  end
  h.put, h.dropped = nil, nil
end

-- Write all of it, which takes less than to drop most of its fields. Another key goes with it.
local function write_anew(h, other)
  local all, n = {}, 0
  for field, value in pairs(h.f) do
    all[n + 1], all[n + 2] = field, value
    n = n + 2
  end
  redis.call('DEL', h.key, other or h.key)
  redis.call('HSET', h.key, unpack(all))
  h.put, h.dropped, h.is_anew = nil, nil, nil
end
