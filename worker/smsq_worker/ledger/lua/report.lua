-- Apply a delivery report, or park it until its mid is known.
--
-- ARGV[1] mid  ARGV[2] the report as JSON, see apply_report
-- ARGV[3] how many reports may be parked for one mid  ARGV[4] the report's member in the inbox
-- ARGV[5] name under which it is counted
-- Returns {events, state, id}, or {events, 'parked', ''}
--
-- One act, because the call's answer may be recorded at the same moment.

local MAX_PARKED = 100000
local report = cjson.decode(ARGV[2])
redis.call('ZREM', INBOX, ARGV[4])
count(ARGV[5])

local known = redis.call('GET', 'smsq:mid:' .. ARGV[1])
local n, id = string.match(known or '', '^(%d+) (.*)$')
local m = id and load(id)
if m then
  apply_report(m, tonumber(n), report)
  return {events, m.state, m.id}
end

local early = 'smsq:early:' .. ARGV[1]
redis.call('RPUSH', early, ARGV[2])
redis.call('LTRIM', early, -tonumber(ARGV[3]), -1)
redis.call('PEXPIRE', early, REPORT_WAIT)
redis.call('ZREMRANGEBYSCORE', PARKED, '-inf', now - REPORT_WAIT)
redis.call('ZADD', PARKED, now, ARGV[1])
if redis.call('ZCARD', PARKED) > MAX_PARKED then  -- a flood of mids that nobody gave out
  redis.call('DEL', 'smsq:early:' .. redis.call('ZPOPMIN', PARKED)[1])
  count('reports_dropped')
end
return {events, 'parked', ''}
