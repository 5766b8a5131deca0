-- Wake-ups from envelopes that Celery made once, with marks: see envelope.py.

-- Put values, which are JSON, in place of marks. They are looked through for no further marks.
local function filled(envelope, values)
  return (envelope:gsub('@(%u+)@', values))
end

local function in_json(text)
  return cjson.encode(text):sub(2, -2)
end

-- Return an id of the form of Celery's own, which nothing else has: a script wakes up an id once.
local function unique(seed)
  local clock = redis.call('TIME')
  local hex = redis.sha1hex(seed .. ' ' .. clock[1] .. ' ' .. clock[2])
  return ('%s-%s-%s-%s-%s'):format(hex:sub(1, 8), hex:sub(9, 12), hex:sub(13, 16), hex:sub(17, 20),
    hex:sub(21, 32))
end

local function wakeup_of_one(envelope, id)
  return filled(envelope, {ID = in_json(id), TAG = unique(id)})
end

local function wakeup_of_many(envelope, ids)
  local id = unique('batch ' .. ids[1])
  return filled(envelope, {ID = id, TAG = id, COUNT = #ids, IDS = in_json(cjson.encode(ids))})
end

-- Return whether a queue took a wake-up. It is not the ledger's, so it may be of another type, or
-- forbidden to this user.
local function is_pushed(queue, wakeup)
  return type(redis.pcall('LPUSH', queue, wakeup)) == 'number'
end
