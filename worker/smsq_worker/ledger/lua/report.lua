-- Apply delivery reports, or park those whose mid is not known yet, or was given to more than one
-- message.
-- needs: set_aside reports clock_step
--
-- ARGV[1] the reports as JSON, each {mid, member, counted_as, meaning}: its member in the inbox, the
--   name under which it is counted, and what it means, see apply_report
-- ARGV[2] how many reports may be parked for one mid
-- Returns {events, {state, id, trace}, ...}, in order, trace only where the message has one;
--   {'parked', ''} for those that were parked, {'bad', ''} for those that stay in the inbox, as their
--   message cannot be processed
--
-- One act, because the attempt's result may be recorded at the same moment.

local MAX_PARKED = 100000

local function park(mid, meaning)
  local early = KEY_EARLY .. mid
  redis.call('RPUSH', early, cjson.encode(meaning))
  redis.call('LTRIM', early, -tonumber(ARGV[2]), -1)
  redis.call('PEXPIRE', early, REPORT_WAIT)
  redis.call('ZREMRANGEBYSCORE', KEY_PARKED, '-inf', now - REPORT_WAIT)
  redis.call('ZADD', KEY_PARKED, now, mid)
  if redis.call('ZCARD', KEY_PARKED) > MAX_PARKED then  -- a flood of made-up mids
    redis.call('DEL', KEY_EARLY .. redis.call('ZPOPMIN', KEY_PARKED)[1])
    count('reports_dropped')
  end
end

local function reconcile(r)
  local known = redis.call('GET', KEY_MID .. r.mid)
  local n, id = string.match(known or '', '^(%d+) (.*)$')
  local m = id and load(id)
  if m then
    apply_report(m, tonumber(n), r.mid, r.meaning)
    save(m)
  else
    park(r.mid, r.meaning)
  end
  score(KEY_INBOX, r.member)
  count(r.counted_as)
  return m and {m.state, m.id, m.trace} or {'parked', ''}
end

return whole_act(function()
  local answer = {events}
  for i, report in ipairs(cjson.decode(ARGV[1])) do
    answer[i + 1] = apart('report', report.member, reconcile, report) or {'bad', ''}
  end
  return answer
end)
