-- How a message ends, and what a doubt or a transient report leads to.
-- needs: message announce compaction idempotency

-- A message was sent after all: if its key was given back, or it was redone, perhaps a second time.
local function sent_after_all(m)
  if not m.f.freed then return end
  drop(m, 'freed')
  count('possible_duplicates')
  local why = m.f.redone_by and 'a redo sends it again as ' .. m.f.redone_by or 'its key was free meanwhile'
  tell(m.id .. ' was sent after all, and ' .. why .. ': a possible duplicate')
end

local OF_THE_LIVE = {'expires', 'hold', 'resends', 'doubt', 'otherwise', 'published', 'overtaken',
  'by', 'who', 'due', 'waits', 'trace', 'stop', 'turn', 'key', 'refused', 'unsent'}

local MAY_BE_REDONE = {failed = true, expired = true, unreported = true}
local IS_UNWANTED = {['local:cancelled'] = true, ['local:dropped'] = true, ['local:invalid'] = true}

-- Return what is kept behind the number and the code of a message that `smsq redo` may send again: its
-- key with the fingerprint, the number's digest, its policy. All of it in the payload, so that all of it
-- is erased with the number. An end after the end makes that no later.
local function kept_of(m, to, reason)
  if REDO == 0 or m.lane == 'otp' or not MAY_BE_REDONE[to] or IS_UNWANTED[reason] then return nil end
  if FINAL[m.stored_state] then return 'before' end
  local key, fingerprint = m.f.key or '', ''
  if key ~= '' and redis.call('GET', KEY_IDEMPOTENCY .. key) == m.id then
    fingerprint = redis.call('GET', KEY_IDEMPOTENCY .. key .. ':fp') or ''
  end
  return cjson.encode({key, fingerprint, m.f.who or '', m.f.hold or ''}):sub(2)
end

-- End a message: the number and the code leave the ledger, the rest stays for the retention.
local function finish(m, to, reason)
  move(m, to, 'finished', now)
  m.kept = kept_of(m, to, reason)
  if m.f.key and certainly_not_sent(m) and free_key(m.id, m.f.key) then set(m, 'freed', 1) end
  m.is_anew = true
  local f = m.f
  f.reason = reason
  for i = 1, #OF_THE_LIVE do f[OF_THE_LIVE[i]] = nil end
  timer(m, false)
  announce(m)
  fold(m)
end

-- End a message that must not be sent any more. It is cancelled only if it certainly was not sent.
local function cancel(m)
  if certainly_not_sent(m) then finish(m, 'cancelled') else finish(m, 'failed', 'local:cancelled') end
end

-- Return whether it, or its campaign, was cancelled while an attempt was under way, or after one was
-- accepted: whatever comes of that, there is no further attempt.
local function is_cancelled(m)
  return m.stop == 'cancelled'
    or m.campaign and redis.call('HGET', KEY_CAMPAIGN .. m.campaign, 'stop') == 'cancelled'
end

-- End a message whose ttl is over. It has expired only if it certainly was not sent, and if its campaign
-- was not cancelled meanwhile: that is what was said of it since.
local function expire(m)
  if is_cancelled(m) then return cancel(m) end
  if m.fallback_reason then finish(m, 'failed', m.fallback_reason) else finish(m, 'expired') end
end

-- Wait for an operator, without a timer.
local function hold(m)
  move(m, 'held')
  score(KEY_HELD, m.id, now)
  timer(m, false)
end

-- Try once more within the budget, or fail with the reason.
local function resend(m, wait_ms, maybe_sent, fallback_reason)
  if is_cancelled(m) or m.resends >= MAX_RESENDS or now + wait_ms >= m.expires then
    return finish(m, 'failed', fallback_reason)
  end
  set(m, 'resends', m.resends + 1, 'otherwise', fallback_reason)
  if maybe_sent then set(m, 'doubt', 1) else drop(m, 'doubt') end
  defer(m, wait_ms)
end

-- The last attempt may have been sent and there is no way to ask: the message's policy decides.
local function follow_doubt(m, wait_ms)
  if is_cancelled(m) then return cancel(m) end
  if m.hold_on_doubt then hold(m) else resend(m, wait_ms, true, 'local:resends') end
end
