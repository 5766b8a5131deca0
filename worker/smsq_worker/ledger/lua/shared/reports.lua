-- What a delivery report does to its message, its number, its template and the account.
-- needs: ends pauses rate suppression routes quality mids

-- A `delivered` report may be repeated for this long.
local REPEATED = DAY
local MAX_CODES_SEEN = 200
local CODES_SEEN_FOR = 90 * DAY

-- Return whether an attempt was at a test number: what is reported of it says nothing of others.
local function is_test_mid(mid)
  return mid:sub(1, #TEST_MID) == TEST_MID
end

-- Count how long something took, in the one bucket into which it falls.
local function took(name, m, ms)
  ms = math.max(0, ms)  -- the clock was set back
  local bounds, i = BOUNDS[name], 1
  while bounds[i] and ms > bounds[i] do i = i + 1 end
  local field = name .. ':' .. m.lane .. ':'
  add(KEY_DURATIONS, field .. (bounds[i] or 'inf'), 1)
  add(KEY_DURATIONS, field .. 'sum', ms)
end

-- Return a lane's window of the template's reports, which moves on by halves. The act writes it when it
-- ends. Older releases keep one for all lanes in the same hash.
local function window_of(of, template, lane, length)
  local h = open(KEY_REPORTS .. of .. ':' .. template)
  h.windows = h.windows or {}
  if h.windows[lane] then return h.windows[lane] end
  local function stored(field)
    return tonumber(h.f[lane .. ':' .. field] or 0)
  end
  local half, started = length / 2, stored('start')
  local w = {start = math.min(started, now), good = stored('good'), bad = stored('bad'),
    good_before = stored('good_before'), bad_before = stored('bad_before')}
  if now >= w.start + length then
    w = {start = now, good = 0, bad = 0, good_before = 0, bad_before = 0}
  elseif now >= w.start + half then
    w = {start = w.start + half, good = 0, bad = 0, good_before = w.good, bad_before = w.bad}
  end
  h.windows[lane] = w
  if w.start ~= started then  -- It is nothing any more when it is over.
    h.lasts = 0
    for _, limit in pairs(TEMPLATE_PAUSE) do h.lasts = math.max(h.lasts, limit[3]) end
  end
  at_end(function()
    for field, value in pairs(w) do set(h, lane .. ':' .. field, value) end
  end)
  return w
end

-- Count a report in its lane's window of the template; return whether it makes a pattern.
local function is_pattern(m, of, is_bad)
  local limit = TEMPLATE_PAUSE[m.lane]
  if not limit then return false end
  local reports, percent, length = unpack(limit)
  local w, kind = window_of(of, m.template, m.lane, length), is_bad and 'bad' or 'good'
  w[kind] = w[kind] + 1
  local good, bad = w.good + w.good_before, w.bad + w.bad_before
  return is_bad and bad >= reports and bad * 100 >= percent * (good + bad)
end

-- Send nothing to the number: for good (suppress_ms), or for a while there (hold_ms). A blacklist of the
-- account's own, where there are others, holds it there alone: "<until> <lanes>".
local function shield_number(m, of, r)
  if not m.phone_hash then return end
  if ROUTES and ELSEWHERE[r.scope] and (r.suppress_ms or 0) > 0 then
    local key, lasts = KEY_PHONE_HOLD .. m.phone_hash .. of, r.suppress_ms
    local before = tonumber(string.match(redis.call('GET', key) or '', '^%d+') or 0)
    if before >= now + lasts then return end
    redis.call('SET', key, whole(now + lasts) .. ' ' .. table.concat(r.suppress_lanes or {}, ' '), 'PX', lasts)
    return
  elseif (r.suppress_ms or 0) > 0 then
    local payload = redis.call('GET', KEY_PAYLOAD .. m.id)
    local new = {phone = payload and cjson.decode(payload)[1] or '', reason = r.stat, since = now,
      ['until'] = now + r.suppress_ms}
    local entry = laid_over(suppression_of(m.phone_hash), new, r.suppress_lanes)
    redis.call('HSET', KEY_SUPPRESSED, m.phone_hash, cjson.encode(entry))
  end
  if (r.hold_ms or 0) > 0 then
    redis.call('SET', KEY_PHONE_HOLD .. m.phone_hash .. of, now + r.hold_ms, 'PX', r.hold_ms)
  end
end

-- Apply what a report on an attempt says of the account, the template and the rate.
local function heed_report(m, of, begun, r)
  if r.slow_down then slow_down(of, begun, r.stat) end
  local account = 'account' .. of
  if r.pause == 'account' then
    if since_resumed(account, begun) then pause(account, 'report', r.stat) end
  else
    heal(account, 'report', begun)
  end
  local scope = template_at(of, m.template)
  local bad = r.pause == 'template'
  if since_resumed(scope, begun) then
    if is_pattern(m, of, bad) then pause(scope, 'report', r.stat, m.lane) end
  end
  if r.class == 'delivered' then heal(scope, 'report', begun, m.lane) end
end

-- Remember a code that the catalogue does not know, for `smsq codes --seen`. Only of a message's own
-- report: whoever knows the address but no mid can invent as many as they like. The rarest go first,
-- and of those the one that has not come for the longest time.
local function note_unlisted(r, mid, of)
  local seen = KEY_CODES_SEEN .. of
  local ok, one = pcall(cjson.decode, redis.call('HGET', seen, r.stat) or '')
  if not ok then
    if redis.call('HLEN', seen) >= MAX_CODES_SEEN then
      local rarest, least, last
      for stat, text in pairs(read_fields(seen)) do
        local is_one, other = pcall(cjson.decode, text)
        local n, at = is_one and other.count or 0, is_one and other.last or 0
        if not least or n < least or (n == least and at < last) then
          rarest, least, last = stat, n, at
        end
      end
      redis.call('HDEL', seen, rarest)
    end
    one = {count = 0, first = now}
  end
  one.count, one.last, one.mid, one.raw = one.count + 1, now, mid:match('^%S*'), r.raw
  redis.call('HSET', seen, r.stat, cjson.encode(one))
  redis.call('PEXPIRE', seen, CODES_SEEN_FOR)
end

-- Note the last code that was reported, and how the gateway wrote it where that differs.
local function note_stat(m, r)
  set(m, 'stat', r.stat)
  if r.raw then set(m, 'raw', r.raw) else drop(m, 'raw') end
end

-- An attempt that was reported not to have arrived, for which the message went on, may have arrived.
local function take_back_denial(m, n)
  drop(m, attempt(n).denied)
  if not certainly_not_sent(m, n + 1) then
    count('possible_duplicates')
    tell(m.id .. ' was sent once more, as call ' .. n .. ' was reported not to have arrived, which'
      .. ' another report takes back: a possible duplicate')
  elseif is_live(m) then
    set(m, 'doubt', 1)
  end
end

-- Note that an attempt did not arrive, as a report says: no doubt is left for which the message goes on.
local function deny(m, n, reason)
  drop(m, 'doubt')
  set(m, 'otherwise', reason, attempt(n).denied, 1)
end

-- Move the message on. Delivered outranks everything; the rest counts only where n is the last
-- attempt that may have been sent.
local function follow_report(m, n, mid, of, r, begun, known)
  local is_doubted_anew = false
  if r.class == 'delivered' or r.maybe_sent then
    if FINAL[m.state] then sent_after_all(m) end
    is_doubted_anew = m.f[attempt(n).denied] ~= nil
    if is_doubted_anew then take_back_denial(m, n) end
  end
  set(m, attempt(n).stat, r.stat)
  if not NEXT[m.state] then return end
  -- A repeated report does not make a pattern.
  if known ~= r.stat and not is_test_mid(mid) then heed_report(m, of, begun or 0, r) end
  if r.class == 'delivered' then
    note_stat(m, r)
    if m.state ~= 'delivered' then finish(m, 'delivered') end
    -- Its mid has told all that it can.
    redis.call('PEXPIRE', KEY_MID .. mid, math.min(REPEATED, RETENTION))
    return
  end
  if not is_test_mid(mid) then shield_number(m, of, r) end
  if (FINAL[m.state] and m.state ~= 'unreported') or not certainly_not_sent(m, n + 1) then return end
  note_stat(m, r)
  local reason = 'report:' .. r.stat
  -- Reports are repeated, and the first one let it go on.
  local waits = m.state == 'queued' or m.state == 'deferred'
  if waits and known == r.stat and m.f.otherwise == reason then return end
  local goes_on = not is_cancelled(m)
  local came_not = goes_on and not r.maybe_sent
    and (m.state == 'accepted' or waits and r.class == 'permanent')
  local fails_there = r.class == 'permanent' or r.class == 'transient'
  if ROUTES and came_not and fails_there and ELSEWHERE[r.scope] then
    note_untaken(m, of, reason)
    if goes_elsewhere(m) then return deny(m, n, reason) end
    if r.class == 'permanent' then reason = first_reason(m) end
  end
  local of_template = came_not and r.pause == 'template' and paused(template_at(of, m.template))
  if of_template and stops_lane(of_template, m.lane) then
    -- The template is known to be at fault: it waits with the others.
    deny(m, n, reason)
    wait_for_template(m)
  elseif came_not and r.pause == 'account' and r.class == 'transient' then
    -- The account is at fault: that uses up nothing.
    deny(m, n, reason)
    defer(m, r.wait_ms)
  elseif r.class == 'permanent' or (r.class == 'transient' and m.state == 'unreported') then
    finish(m, 'failed', reason)
  elseif is_doubted_anew and waits and goes_on and m.hold_on_doubt then
    hold(m)
  elseif r.class == 'transient' and m.state == 'accepted' then
    if goes_on and r.maybe_sent and m.hold_on_doubt then
      hold(m)
    else
      resend(m, r.wait_ms, r.maybe_sent, reason)
      if not (r.maybe_sent or FINAL[m.state]) then set(m, attempt(n).denied, 1) end
    end
  end
end

-- Apply a report {stat, class, wait_ms, maybe_sent, pause, suppress_ms, hold_ms, slow_down}, and
-- perhaps suppress_lanes, raw, unlisted and scope, on attempt n, by its mid.
local function apply_report(m, n, mid, r)
  local is_test, of = is_test_mid(mid), account_of_mid(mid)
  if r.unlisted and not is_test then note_unlisted(r, mid, of) end
  unfold(m)
  local f, before = m.f, m.state
  local begun, known, accepted = f[attempt(n).at], f[attempt(n).stat], f.accepted
  follow_report(m, n, mid, of, r, begun, known)
  if begun and not is_test and m.state ~= before and (m.state == 'delivered' or m.state == 'failed') then
    -- When an older attempt got its mid is not kept; that was soon after it began.
    local is_last = n == m.n and tonumber(accepted or 0) >= tonumber(begun)
    took('delivery', m, now - (is_last and accepted or begun))
  end
  if ROUTES and begun and not is_test then
    count_report_for_hour(m, n, begun, of, r, before, known)
  end
  if FINAL[m.state] then fold(m) end
end
