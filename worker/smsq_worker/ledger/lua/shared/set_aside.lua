-- One thing that no act can process is set aside, so that it stops none of the others.
--
-- KEY_BAD holds "<what>:<name>" by when it last failed. Nothing else is taken away: the thing is
-- tried again a while later, and goes on by itself once it was corrected. It is logged and counted
-- when it comes in; it goes when it has not failed for BAD_MS. Where as many as it may hold have
-- failed, as of a fault that all share, others wait for room, or each would be logged at each try.
-- Pauses do not: they are few, and stop all.

local BAD_MS, BAD_AT_MOST = 600000, 10000
local AGAIN_MS = 60000
local OF_THE_SERVER = {'OOM', 'MISCONF', 'NOREPLICAS', 'READONLY', 'NOPERM'}

-- Return whether the caller can decode it: one answer that is not text would cost it all the others.
local function is_utf8(s)
  if not s:find('[\128-\255]') then return true end
  -- What UTF-8 allows, beside ASCII.
  local characters = {'[\194-\223][\128-\191]', '\224[\160-\191][\128-\191]',
    '\237[\128-\159][\128-\191]', '[\225-\236\238\239][\128-\191][\128-\191]',
    '\240[\144-\191][\128-\191][\128-\191]', '[\241-\243][\128-\191][\128-\191][\128-\191]',
    '\244[\128-\143][\128-\191][\128-\191]'}
  for _, character in ipairs(characters) do s = s:gsub(character, ' ') end
  return not s:find('[\128-\255]')
end

local function is_line(s)
  return is_utf8(s) and not s:find('%c')
end

-- Only messages are named in the log, for what else there is may quote a number.
local function set_aside(what, name, why)
  local clock, entry = redis.call('TIME'), what .. ':' .. name
  local is_new = not redis.call('ZSCORE', KEY_BAD, entry)
  if is_new and what ~= 'pause' and redis.call('ZCARD', KEY_BAD) >= BAD_AT_MOST then return end
  redis.call('ZADD', KEY_BAD, clock[1] * 1000, entry)
  redis.call('ZREMRANGEBYRANK', KEY_BAD, 0, -BAD_AT_MOST - 1)
  if not is_new then return end
  redis.call('HINCRBY', KEY_BAD_COUNTS, what, 1)
  local shown = what == 'message' and name:find('^[%w_.:-]+$') and ' ' .. name:sub(1, 64) or ''
  redis.call('RPUSH', KEY_TOLD, 'set aside a ' .. what .. shown .. ' that cannot be understood: '
    .. why:gsub('[^\32-\126]', '?'):sub(1, 200))
  redis.call('LTRIM', KEY_TOLD, -1000, -1)
end

-- Do something for one of many; nil where it was set aside.
local function apart(what, name, act, ...)
  local ok, answer = pcall(act, ...)
  if ok then return answer end
  local why = tostring(type(answer) == 'table' and answer.err or answer)
  for _, word in ipairs(OF_THE_SERVER) do
    if why:find(word, 1, true) then error(answer, 0) end
  end
  set_aside(what, name, why)
end
