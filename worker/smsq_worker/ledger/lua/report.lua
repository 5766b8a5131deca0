-- Apply delivery reports, or park those whose mid is not known yet.
--
-- ARGV[1] the reports as JSON, each an array: mid, its member in the inbox, name under which it is
--   counted, what it means, see apply_report
-- ARGV[2] how many reports may be parked for one mid
-- Returns {events, {state, id, trace}, ...}, in order, trace only where the message has one;
--   {'parked', ''} for those that were parked, {'bad', ''} for those that stay in the inbox, as
--   nothing can be made of their message
--
-- One act, because the call's answer may be recorded at the same moment.

local MAX_PARKED = 100000

local function park(mid, report)
  local early = 'smsq:early:' .. mid
  redis.call('RPUSH', early, cjson.encode(report))
  redis.call('LTRIM', early, -tonumber(ARGV[2]), -1)
  redis.call('PEXPIRE', early, REPORT_WAIT)
  redis.call('ZREMRANGEBYSCORE', PARKED, '-inf', now - REPORT_WAIT)
  redis.call('ZADD', PARKED, now, mid)
  if redis.call('ZCARD', PARKED) > MAX_PARKED then  -- a flood of mids that nobody gave out
    redis.call('DEL', 'smsq:early:' .. redis.call('ZPOPMIN', PARKED)[1])
    count('reports_dropped')
  end
end

local function reconcile(mid, member, counted_as, report)
  local known = redis.call('GET', 'smsq:mid:' .. mid)
  local n, id = string.match(known or '', '^(%d+) (.*)$')
  local m = id and load(id)
  if m then
    apply_report(m, tonumber(n), mid, report)
  else
    park(mid, report)
  end
  redis.call('ZREM', INBOX, member)
  count(counted_as)
  return m and {m.state, m.id, m.trace} or {'parked', ''}
end

local answer = {events}
for i, report in ipairs(cjson.decode(ARGV[1])) do
  answer[i + 1] = apart('report', report[2], reconcile, unpack(report)) or {'bad', ''}
end
return answer
