-- Write down what calls came to, and do what follows.
--
-- ARGV[1] the calls as JSON, each an array: id, attempt, outcome, detail (a refusal's first word is
--   the message's reason), mid or "", ms to wait before another attempt, whether the gateway is in
--   trouble, whether it says that we are too fast, when the attempt began in Unix ms (0: unknown)
-- Returns {events, state, ...}, in order
--
-- The attempt's number is the fence: an answer that comes after a newer attempt began still
-- makes its mid known and takes back what its doubt has cost, but moves the state no more, unless
-- the newer ones came to nothing. One act, because a report may arrive between any two.
--
-- A failover may have undone the admission, for replicas lag behind. Then the call was made all the
-- same, and the ledger catches up; or another call was made under the same number meanwhile, which
-- the time when it began tells, and that is counted.

local KEEP_ATTEMPTS = 10
local CATCH_UP = {sending = 'deferred', accepted = 'deferred', held = 'deferred',
  deferred = 'queued', queued = 'sending'}

-- A gateway that is down for a day makes hundreds of attempts that nobody needs to remember.
local function forget_old_attempt(m)
  local old = m.n - KEEP_ATTEMPTS
  if old > 0 and redis.call('HGET', m.key, old .. ':outcome') == 'not_sent' then
    redis.call('HDEL', m.key, old .. ':at', old .. ':outcome', old .. ':detail')
  end
end

local function know(mid, m, n)
  redis.call('SET', 'smsq:mid:' .. mid, n .. ' ' .. m.id, 'PX', REPORT_WAIT + RETENTION)
end

-- Admit an attempt once more that a failover undid. What led to it is undone too: each attempt
-- before it may have been in doubt.
local function catch_up(m, n, at)
  if at == 0 or not is_live(m) then return false end
  local is_known = (m.state == 'queued' or m.state == 'deferred') and not m.doubt
  for _ = is_known and m.n + 1 or m.n, n - 1 do count('possible_duplicates') end
  repeat move(m, CATCH_UP[m.state]) until m.state == 'sending'
  m.n = n
  set(m, 'n', n, n .. ':at', at)
  return true
end

-- Why a message may have been sent by now, as the reason to fail with; nil if it certainly was not.
local function perhaps_sent(m)
  if redis.call('HEXISTS', m.key, 'twice') == 1 then return 'local:resends' end
  for n = m.n, 1, -1 do
    local outcome, stat = unpack(redis.call('HMGET', m.key, n .. ':outcome', n .. ':stat'))
    if outcome == 'accepted' and stat then return 'report:' .. stat end
    if outcome == 'accepted' or outcome == 'maybe_sent' then return 'local:resends' end
  end
end

-- An attempt that was in doubt came to something after all.
local function resolve(m, n, outcome, was_final)
  if outcome == 'maybe_sent' then return end
  -- Not among the counters: the door of release 0.1.0 stumbles over those that it does not know.
  redis.call('HINCRBY', DURATIONS, 'doubts_resolved:' .. outcome, 1)
  if was_final then
    local words = {accepted = 'accepted after all', refused = 'refused', not_sent = 'not sent'}
    set(m, 'detail', 'learnt later: call ' .. n .. ' was ' .. words[outcome])
  elseif outcome ~= 'accepted' then
    -- What the doubt has cost is given back: a resend, but where an operator was to decide.
    if not m.hold then
      m.resends = math.max(0, m.resends - 1)
      set(m, 'resends', m.resends)
    end
    if m.otherwise then
      m.otherwise = perhaps_sent(m)
      if not m.otherwise then
        redis.call('HDEL', m.key, 'otherwise')
      else
        set(m, 'otherwise', m.otherwise)
      end
    end
  end
end

local function called_twice(m, n, outcome, mid)
  if outcome == 'not_sent' or outcome == 'refused' then return m.state end
  count('possible_duplicates')
  set(m, 'twice', 1)
  tell('attempt ' .. n .. ' of ' .. m.id .. ' was made twice: a failover had undone the first')
  if m.state == 'expired' then return m.state end
  if is_live(m) and not m.otherwise then set(m, 'otherwise', 'local:resends') end
  if mid ~= '' then know(mid, m, n) end
  return m.state
end

local function settle(m, n, outcome, detail, mid, wait_ms, trouble, too_fast, at)
  if n > m.n and not catch_up(m, n, at) then return 'unknown' end
  local begun, known, enqueued, due, accepted = unpack(redis.call('HMGET', m.key, n .. ':at',
    n .. ':outcome', 'enqueued', 'due', 'accepted'))
  if begun and at ~= 0 and tonumber(begun) ~= at then return called_twice(m, n, outcome, mid) end
  -- This command sent twice, perhaps about an attempt that has been forgotten since.
  if not begun or (known and known ~= 'maybe_sent') then return m.state end
  set(m, n .. ':outcome', outcome, n .. ':detail', detail)
  if known then resolve(m, n, outcome, FINAL[m.state]) end
  local excused = false
  if outcome ~= known then  -- the lease may have counted it
    count('calls:' .. outcome)
    excused = heed_call(outcome, detail, begun, trouble)
  end
  if too_fast then slow_down(begun, detail) end

  local reports = {}
  if mid ~= '' then
    set(m, n .. ':mid', mid)
    know(mid, m, n)
    reports = redis.call('LRANGE', 'smsq:early:' .. mid, 0, -1)
    redis.call('DEL', 'smsq:early:' .. mid)
    redis.call('ZREM', PARKED, mid)
  end

  local late = m.state ~= 'sending' or n ~= m.n
  -- A late yes holds, too, where those after it came to nothing: no other is to be sent.
  local counts = n == m.n or (outcome == 'accepted' and is_last_sent(m, n))
  if counts and is_live(m) then
    if outcome == 'accepted' then
      if not accepted then took('accept', m, now - (due or enqueued)) end
      move(m, 'accepted', 'accepted', now)
      redis.call('HDEL', m.key, 'doubt', 'otherwise', 'due')
      timer(m, now + REPORT_WAIT)
    elseif outcome == 'refused' and excused then
      redis.call('HDEL', m.key, 'doubt')
      defer(m, wait_ms)
    elseif outcome == 'refused' then
      finish(m, 'failed', string.match(detail, '^%S+'))
    elseif outcome == 'not_sent' then
      redis.call('HDEL', m.key, 'doubt')
      defer(m, wait_ms)
      forget_old_attempt(m)
    elseif not late then
      doubt(m, wait_ms)
    end
  end
  for _, report in ipairs(reports) do apply_report(m, n, mid, cjson.decode(report)) end
  return m.state
end

local function record(id, ...)
  local m = load(id)
  if not m then return 'unknown' end
  unfold(m)
  local state = settle(m, ...)
  if FINAL[m.state] then fold(m) end
  return state
end

local answer = {events}
for i, call in ipairs(cjson.decode(ARGV[1])) do answer[i + 1] = record(unpack(call)) end
return answer
