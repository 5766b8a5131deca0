-- What every act begins with: the schema, the server's time, events.
-- Times are Unix ms of this server. The constants in capitals come from scripts.py.

-- A newer release may have brought the ledger to a form that this one would spoil: see schema.lua.
local schema = redis.call('HMGET', KEY_SCHEMA, 'readable_by', 'now', 'back', 'stepped')
local readable_by = tonumber(schema[1] or 0)
if readable_by > SCHEMA then return redis.error_reply('OUTGROWN ' .. readable_by) end

local DAY = 86400000
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local us = clock[1] * 1000000 + clock[2]

local function whole(number)
  return string.format('%.0f', number)
end

-- What an operator must know; every act returns the events first, so that they are logged once.
local events = {}
local function tell(words)
  events[#events + 1] = words
end

-- Return whether an attempt began after a moment. One from before the clock was set back did not.
local function came_after(begun, at)
  begun = tonumber(begun)
  return begun <= now and begun >= tonumber(at)
end
