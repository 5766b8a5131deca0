-- Write down what a call came to, and do what follows.
--
-- ARGV[1] id  ARGV[2] attempt  ARGV[3] outcome
-- ARGV[4] detail; a refusal's first word is the message's reason
-- ARGV[5] mid, "" where there is none  ARGV[6] ms to wait before another attempt
-- ARGV[7] '1' where the gateway is in trouble  ARGV[8] '1' where it says that we are too fast
-- Returns {events, state}
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

local m = load(ARGV[1])
local n, outcome, mid, wait_ms = tonumber(ARGV[2]), ARGV[3], ARGV[5], tonumber(ARGV[6])
if not m or n > m.n then return {events, 'unknown'} end

local begun, known = unpack(redis.call('HMGET', m.key, n .. ':at', n .. ':outcome'))
-- This command sent twice, perhaps about an attempt that has been forgotten since.
if not begun or (known and known ~= 'maybe_sent') then return {events, m.state} end
set(m, n .. ':outcome', outcome, n .. ':detail', ARGV[4])
local excused = false
if outcome ~= known then  -- the lease may have counted it
  count('calls:' .. outcome)
  excused = heed_call(outcome, ARGV[4], begun, ARGV[7] == '1')
end
if ARGV[8] == '1' then slow_down(begun, ARGV[4]) end

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
    move(m, 'accepted')
    set(m, 'accepted', now)
    redis.call('HDEL', m.key, 'doubt', 'otherwise')
    timer(m, now + REPORT_WAIT)
  elseif outcome == 'refused' and excused then
    redis.call('HDEL', m.key, 'doubt')
    defer(m, wait_ms)
  elseif outcome == 'refused' then
    finish(m, 'failed', string.match(ARGV[4], '^%S+'))
  elseif outcome == 'not_sent' then
    redis.call('HDEL', m.key, 'doubt')
    defer(m, wait_ms)
    forget_old_attempt(m)
  elseif not late then
    doubt(m, wait_ms)
  end
end
for _, report in ipairs(reports) do apply_report(m, n, cjson.decode(report)) end
return {events, m.state}
