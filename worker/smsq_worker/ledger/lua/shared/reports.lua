-- What a delivery report does to its message, its number, its template and the account.
-- needs: ends pauses rate

local TEMPLATE_REPORTS, TEMPLATE_PERCENT, TEMPLATE_WINDOW = 5, 20, 900000
-- A `delivered` report may be repeated for this long.
local REPEATED = DAY

-- Count how long something took, in the one bucket into which it falls.
local function took(name, m, ms)
  ms = math.max(0, ms)  -- the clock was set back
  local bounds, i = BOUNDS[name], 1
  while bounds[i] and ms > bounds[i] do i = i + 1 end
  local field = name .. ':' .. m.lane .. ':'
  add(KEY_DURATIONS, field .. (bounds[i] or 'inf'), 1)
  add(KEY_DURATIONS, field .. 'sum', ms)
end

-- Return the template's window of reports, which moves on by halves. The act writes it when it ends.
local function window_of(template)
  local key = KEY_REPORTS .. template
  local h = open(key)
  if h.window then return h.window end
  local f, half = h.f, TEMPLATE_WINDOW / 2
  local w = {start = math.min(tonumber(f.start or 0), now), good = tonumber(f.good or 0),
    bad = tonumber(f.bad or 0), good_before = tonumber(f.good_before or 0),
    bad_before = tonumber(f.bad_before or 0)}
  if now >= w.start + TEMPLATE_WINDOW then
    w = {start = now, good = 0, bad = 0, good_before = 0, bad_before = 0}
  elseif now >= w.start + half then
    w = {start = w.start + half, good = 0, bad = 0, good_before = w.good, bad_before = w.bad}
  end
  h.window, h.lasts = w, TEMPLATE_WINDOW
  at_end(function()
    for field, value in pairs(w) do set(h, field, value) end
  end)
  return w
end

-- Count a report in the template's window; return how many were good and bad in it.
local function tally(template, is_bad)
  local w, kind = window_of(template), is_bad and 'bad' or 'good'
  w[kind] = w[kind] + 1
  return w.good + w.good_before, w.bad + w.bad_before
end

-- Send nothing to the number: for good (suppress_ms), or for a while (hold_ms).
local function shield_number(m, r)
  if not m.phone_hash then return end
  if (r.suppress_ms or 0) > 0 then
    local payload = redis.call('GET', KEY_PAYLOAD .. m.id)
    redis.call('HSET', KEY_SUPPRESSED, m.phone_hash, cjson.encode({
      phone = payload and cjson.decode(payload)[1] or '', reason = r.stat, since = now,
      ['until'] = now + r.suppress_ms}))
  end
  if (r.hold_ms or 0) > 0 then
    redis.call('SET', KEY_PHONE_HOLD .. m.phone_hash, now + r.hold_ms, 'PX', r.hold_ms)
  end
end

-- Apply what a report on an attempt says of the account, the template and the rate.
local function heed_report(m, begun, r)
  if r.slow_down then slow_down(begun, r.stat) end
  if r.pause == 'account' then
    if since_resumed('account', begun) then pause('account', 'report', r.stat) end
  else
    heal('account', 'report', begun)
  end
  local scope = 'template:' .. m.template
  local bad = r.pause == 'template'
  if since_resumed(scope, begun) then
    local good, bads = tally(m.template, bad)
    if bad and bads >= TEMPLATE_REPORTS and bads * 100 >= TEMPLATE_PERCENT * (good + bads) then
      pause(scope, 'report', r.stat)
    end
  end
  if r.class == 'delivered' then heal(scope, 'report', begun) end
end

-- Return whether no later attempt can have been sent, so that the message is what this one is.
local function is_last_sent(m, n)
  for later = n + 1, m.n do
    local at, outcome = m.f[attempt(later).at], m.f[attempt(later).outcome]
    if at and outcome ~= 'not_sent' and outcome ~= 'refused' then return false end
  end
  return true
end

-- Move the message on. Delivered outranks everything; the rest counts only where n is the last
-- attempt that may have been sent.
local function follow_report(m, n, mid, r, begun, known)
  if FINAL[m.state] and (r.class == 'delivered' or r.maybe_sent) then sent_after_all(m) end
  set(m, attempt(n).stat, r.stat)
  if not NEXT[m.state] then return end
  -- A repeated report does not make a pattern.
  if known ~= r.stat then heed_report(m, begun or 0, r) end
  if r.class == 'delivered' then
    set(m, 'stat', r.stat)
    if m.state ~= 'delivered' then finish(m, 'delivered') end
    -- Its mid has told all that it can.
    redis.call('PEXPIRE', KEY_MID .. mid, math.min(REPEATED, RETENTION))
    return
  end
  shield_number(m, r)
  if (FINAL[m.state] and m.state ~= 'unreported') or not is_last_sent(m, n) then return end
  set(m, 'stat', r.stat)
  local reason = 'report:' .. r.stat
  local came_not = m.state == 'accepted' and not r.maybe_sent
  if came_not and r.pause == 'template' and paused('template:' .. m.template) then
    -- The template is known to be at fault: it waits with the others.
    set(m, 'otherwise', reason)
    wait_for_template(m)
  elseif came_not and r.pause == 'account' and r.class == 'transient' then
    -- The account is at fault: that uses up nothing.
    set(m, 'otherwise', reason)
    defer(m, r.wait_ms)
  elseif r.class == 'permanent' or (r.class == 'transient' and m.state == 'unreported') then
    finish(m, 'failed', reason)
  elseif r.class == 'transient' and m.state == 'accepted' then
    if r.maybe_sent and m.hold_on_doubt then
      hold(m)
    else
      resend(m, r.wait_ms, r.maybe_sent, reason)
    end
  end
end

-- Apply a report {stat, class, wait_ms, maybe_sent, pause, suppress_ms, hold_ms, slow_down} on
-- attempt n, by its mid.
local function apply_report(m, n, mid, r)
  unfold(m)
  local f, before = m.f, m.state
  local begun, known, accepted = f[attempt(n).at], f[attempt(n).stat], f.accepted
  follow_report(m, n, mid, r, begun, known)
  if begun and m.state ~= before and (m.state == 'delivered' or m.state == 'failed') then
    -- When an older attempt got its mid is not kept; that was soon after it began.
    local is_last = n == m.n and tonumber(accepted or 0) >= tonumber(begun)
    took('delivery', m, now - (is_last and accepted or begun))
  end
  if FINAL[m.state] then fold(m) end
end
