-- Write down what calls came to, and do what follows.
--
-- ARGV[1] the calls as JSON, each an array: id, attempt, outcome, detail (a refusal's first word is
--   the message's reason), mid or "", ms to wait before another attempt, whether the gateway is in
--   trouble, whether it says that we are too fast
-- Returns {events, state, ...}, in order
--
-- The attempt's number is the fence: an answer that comes after a newer attempt began still
-- makes its mid known, but moves the state no more. One act, because a report may arrive between
-- any two.

local KEEP_ATTEMPTS = 10

-- A gateway that is down for a day makes hundreds of attempts that nobody needs to remember.
local function forget_old_attempt(m)
  local old = m.n - KEEP_ATTEMPTS
  if old > 0 and redis.call('HGET', m.key, old .. ':outcome') == 'not_sent' then
    redis.call('HDEL', m.key, old .. ':at', old .. ':outcome', old .. ':detail')
  end
end

local function settle(m, n, outcome, detail, mid, wait_ms, trouble, too_fast)
  if n > m.n then return 'unknown' end
  local begun, known = unpack(redis.call('HMGET', m.key, n .. ':at', n .. ':outcome'))
  -- This command sent twice, perhaps about an attempt that has been forgotten since.
  if not begun or (known and known ~= 'maybe_sent') then return m.state end
  set(m, n .. ':outcome', outcome, n .. ':detail', detail)
  local excused = false
  if outcome ~= known then  -- the lease may have counted it
    count('calls:' .. outcome)
    excused = heed_call(outcome, detail, begun, trouble)
  end
  if too_fast then slow_down(begun, detail) end

  local reports = {}
  if mid ~= '' then
    set(m, n .. ':mid', mid)
    redis.call('SET', 'smsq:mid:' .. mid, n .. ' ' .. m.id, 'PX', REPORT_WAIT + RETENTION)
    reports = redis.call('LRANGE', 'smsq:early:' .. mid, 0, -1)
    redis.call('DEL', 'smsq:early:' .. mid)
    redis.call('ZREM', PARKED, mid)
  end

  local late = m.state ~= 'sending' or n ~= m.n
  if n == m.n and not FINAL[m.state] then
    if outcome == 'accepted' then
      move(m, 'accepted', 'accepted', now)
      redis.call('HDEL', m.key, 'doubt', 'otherwise')
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
