-- Record the results of attempts, and do what follows.
-- needs: reports breaker clock_step routes quality
--
-- ARGV[1] the results as JSON, each [id, attempt, outcome, detail, mid, wait_ms, trouble, too_fast,
--   begun], and perhaps account, scope, in_hand]: a refusal's detail begins with the message's
--   reason; mid is "" where there is none; wait_ms to another attempt; whether the gateway is in
--   trouble, and says that we are too fast; when the attempt began in Unix ms (0: unknown); the key of
--   its account; where the cause of a refusal lies, "" where that is not clear, and of one that was not
--   sent "worker" where no account has to do with it; whether the caller goes on with a message that
--   is `queued` again, see routes.lua
-- Returns {events, state, ...}, in order
--
-- The attempt's number is the fence: a result that comes after a newer attempt began still
-- makes its mid known and takes back what its doubt has cost, but moves the state no more, unless
-- the newer ones came to nothing. One act, because a report may arrive between any two.
--
-- A failover may have undone the admission, for replicas lag behind. Then the attempt was made all
-- the same, and the ledger catches up; or another was made under the same number meanwhile: the
-- time when it began shows that, and it is counted.

local KEEP_ATTEMPTS = 10
local CATCH_UP = {sending = 'deferred', accepted = 'deferred', held = 'deferred',
  deferred = 'queued', queued = 'sending'}

-- A gateway that is down for a day makes hundreds of attempts that need not be kept.
local function forget_old_attempt(m)
  local old = m.n - KEEP_ATTEMPTS
  if old > 0 and m.f[attempt(old).outcome] == 'not_sent' then
    local fields = attempt(old)
    drop(m, fields.at, fields.outcome, fields.detail, fields.account)
  end
end

-- Note which attempt a mid belongs to. Returns the attempt that reports on it are of; nil where it
-- was given to another message too: then it leads to neither, and reports on it are parked.
-- 0.1.0 and 0.2.0 park them as well, as what they look for begins with a number.
local function know(mid, m, n)
  local key, of_this = KEY_MID .. mid, n .. ' ' .. m.id
  local known = redis.call('SET', key, of_this, 'NX', 'GET', 'PX', REPORT_WAIT + RETENTION)
  if not known then return n end
  local before, id = string.match(known, '^(%d+) (.*)$')
  before = tonumber(before)
  local value, whose
  if id == m.id and before ~= n then
    -- Of the older attempt: that it was delivered ends the message, and nothing else does.
    n = math.min(n, before)
    whose = 'more than one call of ' .. id
  elseif known:find('^reused\t') then
    value = known
    count_since_0_3('mids_reused')
  elseif id and id ~= m.id and redis.call('HEXISTS', KEY_MESSAGE .. id, 'state') == 1 then
    -- An id may have blanks, which would make 0.2.0's `explain` look for a number before them.
    value = 'reused\t' .. string.gsub(id .. '\t' .. m.id, ' ', '\n')
    whose = id .. ' and to ' .. m.id
  end
  if whose then
    count_since_0_3('mids_reused')
    tell('the gateway gave mid ' .. mid .. ' to ' .. whose .. ': a report on it cannot be told apart')
  end
  redis.call('SET', key, value or (n .. ' ' .. m.id), 'PX', REPORT_WAIT + RETENTION)
  return not value and n or nil
end

-- Admit an attempt once more that a failover undid. What led to it is undone too: each attempt
-- before it may have been in doubt.
local function catch_up(m, n, r)
  if r.begun == 0 or not is_live(m) then return false end
  local is_known = (m.state == 'queued' or m.state == 'deferred') and not m.doubt
  for _ = is_known and m.n + 1 or m.n, n - 1 do
    count('possible_duplicates')
    set(m, '0:outcome', 'maybe_sent')
  end
  repeat move(m, CATCH_UP[m.state]) until m.state == 'sending'
  m.n, m.of = n, r.of
  set(m, 'n', n, attempt(n).at, r.begun)
  if r.of ~= '' then set(m, attempt(n).account, r.account) end
  return true
end

-- Return why a message may have been sent by now, as the reason to fail with; nil if it certainly
-- was not.
local function perhaps_sent(m)
  for n = m.n, 0, -1 do  -- 0: attempts that a failover undid
    local outcome, stat = m.f[attempt(n).outcome], m.f[attempt(n).stat]
    if outcome == 'accepted' and stat then return 'report:' .. stat end
    if outcome == 'accepted' or outcome == 'maybe_sent' then return 'local:resends' end
  end
end

-- An attempt that was in doubt has a certain result after all.
local function resolve(m, n, outcome)
  if outcome == 'maybe_sent' then return end
  count_since_0_3('doubts_resolved:' .. outcome)
  if FINAL[m.state] then
    local words = {accepted = 'accepted after all', refused = 'refused', not_sent = 'not sent'}
    set(m, 'detail', 'learnt later: call ' .. n .. ' was ' .. words[outcome])
  elseif outcome ~= 'accepted' then
    -- What the doubt has cost is given back: a resend, but where an operator was to decide.
    if not m.hold_on_doubt then
      m.resends = math.max(0, m.resends - 1)
      set(m, 'resends', m.resends)
    end
    if not m.fallback_reason then return end
    m.fallback_reason = perhaps_sent(m)
    if m.fallback_reason then
      set(m, 'otherwise', m.fallback_reason)
    else
      drop(m, 'otherwise')
    end
  end
end

local function attempted_twice(m, r)
  if r.outcome == 'not_sent' or r.outcome == 'refused' then return m.state end
  count('possible_duplicates')
  set(m, '0:outcome', 'maybe_sent')
  drop(m, 'freed')  -- or it would be counted once more
  tell('attempt ' .. r.attempt .. ' of ' .. m.id .. ' was made twice: a failover had undone the first')
  if m.state == 'expired' then return m.state end
  if is_live(m) and not m.fallback_reason then set(m, 'otherwise', 'local:resends') end
  if r.mid ~= '' then know(r.mid, m, r.attempt) end
  return m.state
end

-- Make the result's mid known; return the reports on it that came early, and the attempt they are of.
local function reports_before(m, r)
  if r.mid == '' then return {} end
  set(m, attempt(r.attempt).mid, string.match(r.mid, '^%S+'))
  local of = know(r.mid, m, r.attempt)
  if not of then return {} end
  local early = KEY_EARLY .. r.mid
  local reports = redis.call('LRANGE', early, 0, -1)
  if reports[1] then
    redis.call('DEL', early)
    score(KEY_PARKED, r.mid)
  end
  return reports, of
end

-- Return whether a refusal may be the fault of its account. One without a clear cause is its first
-- one's, if another that sends is there to try the message: or bad numbers would pause all of them.
local function may_be_at_fault(m, r)
  if is_local(r.detail) then return false end
  if r.outcome ~= 'refused' or not ROUTES then return not OF_THE_MESSAGE[r.scope] end
  if r.scope ~= '' then return r.scope == 'account' or r.scope == 'gateway' end
  if m.f.refused then return false end
  local all = accounts_of(m)
  for _, of in ipairs(all) do
    if of ~= r.of and not paused('account' .. of) and not paused('breaker' .. of) then return true end
  end
  return not all[2]
end

-- An account certainly did not take the message: others may. Return whether that is followed, and the
-- reason to fail with where all have refused it.
local function follow_untaken(m, r, excused)
  local is_refused = r.outcome == 'refused' and not excused
  if r.scope == 'worker' or is_refused and OF_THE_MESSAGE[r.scope] then return false end
  if goes_elsewhere(m, r.in_hand) then return true end
  if is_refused and m.f.unsent and not is_cancelled(m) then
    -- Those that have not refused it count again.
    drop(m, 'doubt', 'unsent')
    defer(m, r.wait_ms)
    return true
  end
  drop(m, 'unsent')
  return false, first_reason(m)
end

-- Return whether the last attempt that may have been sent was accepted, and nothing was reported of it:
-- then another would be a second SMS, in whichever order that was learnt.
local function is_accepted(m)
  for n = m.n, 0, -1 do
    local fields = attempt(n)
    local at, outcome = m.f[fields.at], m.f[fields.outcome]
    if outcome == 'accepted' then return not m.f[fields.stat] end
    if (at or outcome) and outcome ~= 'not_sent' and outcome ~= 'refused' then return false end
  end
  return false
end

-- Move the message on. `excused`: it waits for the account instead of failing.
local function follow_result(m, r, excused)
  local is_late = m.state ~= 'sending' or r.attempt ~= m.n
  if is_accepted(m) then
    if not (m.f.accepted or m.f.test) then took('accept', m, now - (m.f.due or m.f.enqueued)) end
    move(m, 'accepted', 'accepted', now)
    drop(m, 'doubt', 'otherwise', 'due')
    timer(m, now + REPORT_WAIT)
  elseif r.outcome == 'refused' or r.outcome == 'not_sent' then
    if r.outcome == 'not_sent' then forget_old_attempt(m) end
    local is_followed, reason
    if ROUTES then is_followed, reason = follow_untaken(m, r, excused) end
    if is_followed then return end
    if r.outcome == 'refused' and not excused then
      return finish(m, 'failed', reason or string.match(r.detail, '^%S+'))
    end
    drop(m, 'doubt')
    if is_cancelled(m) then return cancel(m) end
    defer(m, r.wait_ms)
  elseif not is_late then
    follow_doubt(m, ROUTES and wait_after_doubt(m, r.wait_ms) or r.wait_ms)
  end
end

local function apply_result(m, r)
  local n, outcome = r.attempt, r.outcome
  if n > m.n and not catch_up(m, n, r) then
    if r.begun ~= 0 and (outcome == 'accepted' or outcome == 'maybe_sent') then
      set(m, '0:outcome', 'maybe_sent')
      sent_after_all(m)
    end
    return 'unknown'
  end
  local field = attempt(n)
  local begun, known = m.f[field.at], m.f[field.outcome]
  if begun and r.begun ~= 0 and tonumber(begun) ~= r.begun then return attempted_twice(m, r) end
  -- This command sent twice, perhaps about an attempt that has been forgotten since.
  if not begun or (known and known ~= 'maybe_sent') then return m.state end
  set(m, field.outcome, outcome, field.detail, r.detail)
  if known then resolve(m, n, outcome) end
  local excused = false
  if is_test_mid(r.mid) then
    -- Its report, in the same act, so that it cannot be lost: the rest is as for any other.
    set(m, 'test', m.f.test or DELIVRD)
    score(KEY_INBOX, string.format('["%s", "%s"]', r.mid, m.f.test), now)
  elseif outcome ~= known and not (m.f.test and n == m.n) then  -- the lease may have counted it
    count('calls:' .. outcome)
    if ROUTES and outcome == 'accepted' then count_for_hour(m, n, begun, r.of, 'accepted', 1) end
    excused = heed_result(r.of, outcome, r.detail, begun, r.trouble, may_be_at_fault(m, r))
      and not OF_THE_MESSAGE[r.scope] and not is_local(r.detail)
  end
  if r.too_fast then slow_down(r.of, begun, r.detail) end
  if ROUTES and is_live(m) and r.scope ~= 'worker' and not OF_THE_MESSAGE[r.scope] then
    if outcome == 'refused' and not excused then
      note_untaken(m, r.of, string.match(r.detail, '^%S+'))
    elseif outcome == 'refused' or outcome == 'not_sent' then
      note_untaken(m, r.of)
    end
  end

  local reports, of = reports_before(m, r)
  -- A late acceptance holds, too, where those after it came to nothing: no other is to be sent.
  local counts = n == m.n or m.state ~= 'accepted' and is_accepted(m)
  if counts and is_live(m) then follow_result(m, r, excused) end
  for _, report in ipairs(reports) do apply_report(m, of, r.mid, cjson.decode(report)) end
  return m.state
end

local function record(id, attempt_no, outcome, detail, mid, wait_ms, trouble, too_fast, begun,
    account, scope, in_hand)
  local m = load(id)
  if not m then return 'unknown' end
  account = account or ''
  local r = {attempt = attempt_no, outcome = outcome, detail = detail, mid = mid, wait_ms = wait_ms,
    trouble = trouble, too_fast = too_fast, begun = begun, account = account, scope = scope or '',
    of = account == '' and '' or '@' .. account, in_hand = in_hand}
  unfold(m)
  local state = apply_result(m, r)
  if FINAL[m.state] then fold(m) end
  save(m)
  return state
end

return whole_act(function()
  local answer = {events}
  for i, result in ipairs(cjson.decode(ARGV[1])) do answer[i + 1] = record(unpack(result)) end
  return answer
end)
