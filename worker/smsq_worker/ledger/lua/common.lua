-- What every act of the ledger shares; prepended to each, after the constants of `rules.py`:
--   local SCHEMA      the version of smsq/keys.py's table
--   local NEXT        the table of states.py: NEXT['<from> <to>'] is true where there is a way
--   local KNOWN       KNOWN[state] is true for each state of that table
--   local RETENTION   ms for which a final message is kept
--   local LEASE       ms of a call's lease
--   local REPORT_WAIT ms for which a report is awaited, or parked
--   local WEBHOOK     whether every outcome goes to a webhook
--   local MAX_RESENDS resends after doubt or a transient report
--   local BOUNDS      the bounds of each duration's buckets in ms, see durations.py
-- Keys are written down in smsq/keys.py. Times are Unix ms of this server.

-- A newer release may have brought the ledger to a form that this one would spoil: see schema.py.
local readable_by = tonumber(redis.call('HGET', 'smsq:schema', 'readable_by') or 0)
if readable_by > SCHEMA then return redis.error_reply('OUTGROWN ' .. readable_by) end

local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

local TIMERS, INBOX, PARKED = 'smsq:timers', 'smsq:inbox', 'smsq:parked'
local HELD, LIVE = 'smsq:held', 'smsq:live'
local NOTICES = 'smsq:notices'
local COUNTERS = 'smsq:counters'
-- Not among the counters: the door of release 0.1.0 stumbles over those that it does not know.
local DURATIONS = 'smsq:durations'
local FINAL = {delivered = 1, failed = 1, expired = 1, unreported = 1, duplicate = 1,
  cancelled = 1}

-- What an operator must hear of, in words; every act returns it first, to be logged once.
local events = {}
local function tell(words)
  events[#events + 1] = words
end

local function count(name)
  redis.call('HINCRBY', COUNTERS, name, 1)
end

-- The same, under a name that release 0.1.0 does not know.
local function count_since_0_3(name)
  redis.call('HINCRBY', DURATIONS, name, 1)
end

-- Count how long something took, in the one bucket into which it falls.
local function took(name, m, ms)
  ms = math.max(0, ms)  -- the clock was set back
  local bounds, i = BOUNDS[name], 1
  while bounds[i] and ms > bounds[i] do i = i + 1 end
  local field = name .. ':' .. m.lane .. ':'
  redis.call('HINCRBY', DURATIONS, field .. (bounds[i] or 'inf'), 1)
  redis.call('HINCRBY', DURATIONS, field .. 'sum', ms)
end

-- Read a message: nil where there is none.
local function load(id)
  local key = 'smsq:m:' .. id
  local f = redis.call('HMGET', key, 'state', 'lane', 'n', 'resends', 'expires', 'hold',
    'otherwise', 'published', 'overtaken', 'doubt', 'template', 'who', 'fold', 'trace', 'stop',
    'campaign', 'account')
  if not f[1] then return nil end
  return {
    id = id, key = key, state = f[1], lane = f[2], n = tonumber(f[3] or 0),
    resends = tonumber(f[4] or 0), expires = tonumber(f[5] or 0), hold = f[6],
    otherwise = f[7], published = tonumber(f[8] or 0), overtaken = f[9],
    doubt = f[10], template = f[11], who = f[12], fold = f[13],
    trace = f[14] or nil, stop = f[15], campaign = f[16] or '', account = f[17] or 'default',
  }
end

-- Return whether an act may move a message on. One in a state that only a newer release knows is
-- left to that.
local function is_live(m)
  return KNOWN[m.state] and not FINAL[m.state]
end

local function set(m, ...)
  redis.call('HSET', m.key, ...)
end

-- Return the index of the timers that must not wait behind a million others: leases, and what is to
-- go again of the lanes before bulk. Each is in `smsq:timers`, too, which alone is the truth: older
-- releases know no index.
local INDEXED = {otp = 'smsq:timers:otp', notice = 'smsq:timers:notice'}
local LEASES = 'smsq:timers:leases'
local function index_of(m)
  if m.state == 'sending' then return LEASES end
  return m.state == 'deferred' and INDEXED[m.lane]
end

local function timer(m, at)
  redis.call('ZADD', TIMERS, at, m.id)
  local index = index_of(m)
  if index then redis.call('ZADD', index, at, m.id) end
end

-- Where messages wait while their template is paused.
local function waiting_room(template)
  return 'smsq:waiting:' .. template
end

-- Change the state, only along a way of the table; fields and their values change with it.
local function move(m, to, ...)
  if not NEXT[m.state .. ' ' .. to] then
    error('smsq: no way from ' .. m.state .. ' to ' .. to)
  end
  local index = index_of(m)
  if index then redis.call('ZREM', index, m.id) end
  if m.state == 'held' then redis.call('ZREM', HELD, m.id) end
  if m.state == 'deferred' then redis.call('ZREM', waiting_room(m.template), m.id) end
  if not FINAL[m.state] then redis.call('HINCRBY', LIVE, m.lane .. ':' .. m.state, -1) end
  if not FINAL[to] then redis.call('HINCRBY', LIVE, m.lane .. ':' .. to, 1) end
  m.state = to
  set(m, 'state', to, ...)
  count('messages:' .. m.lane .. ':' .. to)
end

-- Note who is to be told of the end: in the act that brings it about, or it could be forgotten.
local OUTCOME = {'lane', 'reason', 'stat', 'detail', 'template', 'phone', 'reference', 'notify',
  'returnurl', 'enqueued', 'accepted', 'finished', 'allowed'}
local function announce(m)
  local outcome = {id = m.id, state = m.state, trace = m.trace}
  for i, value in ipairs(redis.call('HMGET', m.key, unpack(OUTCOME))) do
    outcome[OUTCOME[i]] = value or nil
  end
  local kinds = {}
  if outcome.notify then kinds[#kinds + 1] = 'task' end
  if outcome.returnurl then kinds[#kinds + 1] = 'returnurl' end
  if WEBHOOK then kinds[#kinds + 1] = 'webhook' end
  if #kinds == 0 then return end
  if m.n > 0 then outcome.mid = redis.call('HGET', m.key, m.n .. ':mid') or nil end
  local name = m.state .. ':' .. m.id
  redis.call('HSET', 'smsq:o:' .. name, 'outcome', cjson.encode(outcome), 'since', now,
    'pending', #kinds)
  for _, kind in ipairs(kinds) do redis.call('ZADD', NOTICES, now, kind .. ':' .. name) end
end

-- Was it certainly not sent? So say its attempts, never its reason: an attempt that was refused may
-- follow one in doubt. One without an outcome is in doubt; one of which nothing is left was not
-- sent. The attempt 0 stands for those that a failover undid.
local function certainly_not_sent(m)
  for n = 0, m.n do
    local at, outcome = unpack(redis.call('HMGET', m.key, n .. ':at', n .. ':outcome'))
    if (at or outcome) and outcome ~= 'not_sent' and outcome ~= 'refused' then return false end
  end
  return true
end

-- Give an idempotency key back, so that sending again with it sends. If it names another message by
-- now it stays. The second name is that of release 0.2.0, see enqueue.lua.
local function free_key(m)
  local key = redis.call('HGET', m.key, 'key')
  if not key or not certainly_not_sent(m) then return end
  for _, name in ipairs({'smsq:k:' .. key, 'smsq:k:' .. key:sub(-32)}) do
    if redis.call('GET', name) == m.id then
      redis.call('DEL', name, name .. ':fp')
      set(m, 'freed', 1)
    end
  end
end

-- News that a message was sent after all: if its key was given back, perhaps a second time.
local function sent_after_all(m)
  if redis.call('HDEL', m.key, 'freed') == 0 then return end
  count('possible_duplicates')
  tell(m.id .. ' was sent after all, and its key was free meanwhile: a possible duplicate')
end

-- Come to an end: the number and the code leave the ledger, the rest stays for a while.
local function finish(m, to, reason)
  move(m, to, 'finished', now)
  free_key(m)
  if reason then set(m, 'reason', reason) else redis.call('HDEL', m.key, 'reason') end
  redis.call('HDEL', m.key, 'expires', 'hold', 'resends', 'doubt', 'otherwise', 'published',
    'overtaken', 'who', 'due', 'waits', 'trace', 'stop', 'key')
  redis.call('DEL', 'smsq:p:' .. m.id)
  redis.call('ZREM', TIMERS, m.id)
  redis.call('PEXPIRE', m.key, RETENTION)
  announce(m)
  fold(m)
end

-- End a message whose ttl is over. It has expired only if it certainly was not sent.
local function expire(m)
  if m.otherwise then finish(m, 'failed', m.otherwise) else finish(m, 'expired') end
end

-- End a message that must not be sent any more. It is cancelled only if it certainly was not sent.
local function cancel(m)
  if m.otherwise then finish(m, 'failed', 'local:cancelled') else finish(m, 'cancelled') end
end

-- Wait, but never past the ttl's end.
local function defer(m, wait_ms)
  if m.state ~= 'deferred' then move(m, 'deferred') end
  set(m, 'waits', wait_ms)
  timer(m, math.min(now + wait_ms, m.expires))
end

-- Wait for an operator, without a timer.
local function hold(m)
  move(m, 'held')
  redis.call('ZADD', HELD, now, m.id)
  redis.call('ZREM', TIMERS, m.id)
end

-- Try once more within the budget; fail with the reason otherwise.
local function resend(m, wait_ms, maybe_sent, otherwise)
  if m.resends >= MAX_RESENDS or now + wait_ms >= m.expires then
    return finish(m, 'failed', otherwise)
  end
  set(m, 'resends', m.resends + 1, 'otherwise', otherwise)
  if maybe_sent then set(m, 'doubt', 1) else redis.call('HDEL', m.key, 'doubt') end
  defer(m, wait_ms)
end

-- The last attempt may have been sent and nobody can ask: the policy decides.
local function doubt(m, wait_ms)
  if m.hold then hold(m) else resend(m, wait_ms, true, 'local:resends') end
end
