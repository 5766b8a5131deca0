-- Do what an operator says with a campaign.
-- needs: base audit
--
-- ARGV[1] pause, resume, cancel or rate  ARGV[2] its name  ARGV[3] of a rate: attempts a second, '' for
-- none of its own  ARGV[4] who and what, see audit.lua
-- Returns what it was before: '', paused or cancelled; or unknown
--
-- One act of a fixed number of commands, however many messages there are: those ask their campaign when
-- they are to go, and the scheduler does the rest, see campaigns_tick.lua. What was cancelled stays so.

local what, name, rate = ARGV[1], ARGV[2], ARGV[3]
local key = KEY_CAMPAIGN .. name
local at, stop = unpack(redis.call('HMGET', key, 'at', 'stop'))
if not at then return 'unknown' end
stop = stop or ''

-- admit looks at the record only where this says that there is something to see.
local function mark(is_decided)
  local field = 'campaign:' .. name
  if is_decided then redis.call('HSET', KEY_STOPS, field, 1) else redis.call('HDEL', KEY_STOPS, field) end
end

local function done(effect, is_decided)
  mark(is_decided)
  note_act(ARGV[4], effect)
  -- The next worker logs it: that is where others look for it.
  redis.call('RPUSH', KEY_TOLD, 'campaign ' .. name .. ': ' .. effect)
  redis.call('LTRIM', KEY_TOLD, -100, -1)
  return stop
end

-- What was decided before is marked again: the mark may have been lost, and a write lets WAIT wait for the
-- one before.
if stop == 'cancelled' or what == 'pause' and stop == 'paused' then
  mark(true)
  return stop
elseif what == 'rate' and rate == '' then
  redis.call('HDEL', key, 'rate', 'slot', 'pace')
  return done('without a rate of its own', stop ~= '')
elseif what == 'rate' then
  redis.call('HSET', key, 'rate', rate)
  return done('at most ' .. rate .. ' a second', true)
elseif what == 'pause' then
  redis.call('HSET', key, 'stop', 'paused', 'stopped', now)
  return done('paused', true)
elseif what == 'resume' then
  if stop == '' then return stop end
  redis.call('HDEL', key, 'stop', 'stopped')
  redis.call('SADD', KEY_CAMPAIGN_ROOMS, name)
  return done('resumed', redis.call('HEXISTS', key, 'rate') == 1)
end
redis.call('HSET', key, 'stop', 'cancelled', 'stopped', now)
redis.call('HSET', KEY_CAMPAIGN_SWEEP, 'name:' .. name, 1, 'again', 1)
return done('cancelled', true)
