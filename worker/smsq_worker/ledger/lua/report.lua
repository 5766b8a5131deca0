-- Apply delivery reports, or park those whose mid is not known yet, or was given to more than one
-- message.
-- needs: set_aside reports clock_step
--
-- ARGV[1] as JSON, for most reports say the same: the meanings, each {name under which it is counted,
--   what it means, see apply_report}, and the reports, each {mid, its member in the inbox, the number
--   of its meaning}
-- ARGV[2] how many reports may be parked for one mid
-- Returns {events, {state, id, trace}, ...}, in order, trace only where the message has one;
--   {'parked', ''} for those that were parked, {'bad', ''} for those that stay in the inbox, as their
--   message cannot be processed
--
-- One act, because the attempt's result may be recorded at the same moment.

-- In a crowd of unknown mids each has room for few: else a flood would take 16 times the memory.
-- Where Redis' memory is short no more than a crowd stay, or a flood would keep messages out.
local MAX_PARKED, CROWD, FEW_EACH, SHORT = 100000, 10000, 2, 0.75
local DROP = 20
-- So many are looked at to see which of several accounts has the most.
local SAMPLE = 100

local most
local function parked_at_most()
  if most then return most end
  local ok, info = pcall(redis.call, 'INFO', 'memory')  -- an ACL may forbid it
  local used, limit = string.match(ok and info or '', 'used_memory:(%d+).-\nmaxmemory:(%d+)')
  limit = tonumber(limit or 0)
  most = limit > 0 and tonumber(used) > SHORT * limit and CROWD or MAX_PARKED
  return most
end

local function drop_early(mid)
  redis.call('DEL', KEY_EARLY .. mid)
  count('reports_dropped')
end

-- The oldest go; of several accounts those of the one that has the most, as far as a sample shows: one
-- whose address has leaked takes no room from the others.
local function drop_parked(n)
  if not ACCOUNTS then
    for _ = 1, n do drop_early(redis.call('ZPOPMIN', KEY_PARKED)[1]) end
    return
  end
  local of_each, most_of = {}, {}
  local sample = redis.call('ZRANDMEMBER', KEY_PARKED, SAMPLE, 'WITHSCORES')
  for i = 1, #sample, 2 do
    local of = account_of_mid(sample[i])
    local own = of_each[of] or {}
    of_each[of], own[#own + 1] = own, {sample[i], tonumber(sample[i + 1])}
    if #own > #most_of then most_of = own end
  end
  table.sort(most_of, function(a, b) return a[2] < b[2] end)
  for i = 1, math.min(n, #most_of) do
    redis.call('ZREM', KEY_PARKED, most_of[i][1])
    drop_early(most_of[i][1])
  end
end

local function park(mid, meaning)
  local early = KEY_EARLY .. mid
  redis.call('RPUSH', early, cjson.encode(meaning))
  local is_crowd = redis.call('ZCARD', KEY_PARKED) >= CROWD
  redis.call('LTRIM', early, is_crowd and -FEW_EACH or -tonumber(ARGV[2]), -1)
  redis.call('PEXPIRE', early, REPORT_WAIT)
  redis.call('ZREMRANGEBYSCORE', KEY_PARKED, '-inf', now - REPORT_WAIT)
  redis.call('ZADD', KEY_PARKED, now, mid)
  if not is_crowd then return end
  local too_many = redis.call('ZCARD', KEY_PARKED) - parked_at_most()
  if too_many > 0 then drop_parked(math.min(DROP, too_many)) end  -- a flood of made-up mids
end

local function reconcile(mid, member, counted_as, meaning)
  local known = redis.call('GET', KEY_MID .. mid)
  local n, id = string.match(known or '', '^(%d+) (.*)$')
  local m = id and load(id)
  if m then
    apply_report(m, tonumber(n), mid, meaning)
    save(m)
  elseif not is_test_mid(mid) then
    park(mid, meaning)
  end
  score(KEY_INBOX, member)
  if not is_test_mid(mid) then count(counted_as) end
  return m and {m.state, m.id, m.trace} or {'parked', ''}
end

return whole_act(function()
  local answer = {events}
  local meanings, reports = unpack(cjson.decode(ARGV[1]))
  for i, report in ipairs(reports) do
    local mid, member, n = unpack(report)
    answer[i + 1] = apart('report', member, reconcile, mid, member, unpack(meanings[n]))
      or {'bad', ''}
  end
  return answer
end)
