-- Do what is due: for each message whose timer ran out, what must happen if nothing else does.
-- Leases first, then otp, then notice, then all the rest.
-- needs: set_aside ends breaker sweep wakeup campaigns_tick routes
--
-- ARGV[1] how many at most  ARGV[2] ms until a wake-up is checked for being lost
-- ARGV[3] ms to wait before the resend of an attempt whose worker died
-- ARGV[4] JSON: lane -> ids of the oldest wake-up that waits in its queue, none where it is empty;
--   lanes for which that is not known are left out
-- ARGV[5] '1' where wake-ups can be published; otherwise what is to be woken up stays due, or it
--   would seem to be in its queue
-- ARGV[6] where broker and ledger are one Redis, JSON: lane -> {queue, envelope for one message, for a
--   batch}, with marks (wakeup.lua); '' where the caller publishes
-- Returns {events, ms until the next timer or -1, whether lanes are open, closed or probe (where they
--   are open, behind that the lanes that are closed for lack of an account),
--   attempts a second, 1 where more is due, how many were woken up here, of each account of which other
--   workers' settings said another rate {its key, limit and burst there, limit and burst here}, id, lane,
--   id, lane, ...}: the rest are wake-ups to publish
--
-- One act, because any number of workers run this at once, and one that dies after it has woken up
-- what it claimed. Where the caller publishes, one that dies before that leaves messages that are
-- `queued` under a timer, as if a wake-up had been lost.

local limit, ask_ms, lost_wait_ms = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local oldest = cjson.decode(ARGV[4])
local answer = {events, -1, 'open', '', sweep(ask_ms) and 1 or 0, 0, {}, closed = {}}
-- All workers together do the rest, of which there may be a million, in slices so far apart, or an
-- otp would wait for slice after slice.
local APART_MS = 20
-- Ending or doubting a message costs as much as waking up this many, some 0.13 ms. It is counted, as
-- a script does not see time pass.
local ENDED = 4
-- A wake-up enters its queue at most so much later than it was recorded.
local SLOW_MS = 5000

local can_publish = ARGV[5] == '1'
local woken = {}  -- lane -> ids
-- It is looked at again this much later meanwhile.
local UNPUBLISHED_MS = 1000
-- And what the sweep is to end, so much later: that may take longer, with millions.
local UNSWEPT_MS = 600000

local function wake(m)
  if not can_publish then return timer(m, math.min(now + UNPUBLISHED_MS, m.expires)) end
  if m.state ~= 'queued' then move(m, 'queued') end
  set(m, 'published', now)
  drop(m, 'overtaken')
  timer(m, math.min(now + ask_ms, m.expires))
  woken[m.lane] = woken[m.lane] or {}
  table.insert(woken[m.lane], m.id)
end

-- Leave wake-ups to the caller.
local function leave(lane, ids)
  for _, id in ipairs(ids) do
    answer[#answer + 1] = id
    answer[#answer + 1] = lane
  end
end

local function push_one(lane, way, ids)
  local queue, of_one, of_many = unpack(way)
  local wakeup = #ids == 1 and wakeup_of_one(of_one, ids[1]) or wakeup_of_many(of_many, ids)
  if is_pushed(queue, wakeup) then answer[6] = answer[6] + #ids else leave(lane, ids) end
end

-- One wake-up for many messages, or one for each of a few.
local function push_all(lane, way, ids)
  for start = 1, #ids, BATCH do
    local some = {unpack(ids, start, math.min(start + BATCH - 1, #ids))}
    if #some > FEW then
      push_one(lane, way, some)
    else
      for _, id in ipairs(some) do push_one(lane, way, {id}) end
    end
  end
end

-- When the oldest wake-up in a lane's queue was published, where that is known.
local heads = {}
for lane, ids in pairs(oldest) do
  for _, id in ipairs(ids) do
    local f = redis.pcall('HMGET', KEY_MESSAGE .. id, 'state', 'published')
    local at = f[1] == 'queued' and tonumber(f[2]) or 0
    if at > 0 then heads[lane] = math.min(heads[lane] or at, at) end
  end
end

-- A lane is first in, first out: while an older wake-up waits in its queue, so does this one.
-- Otherwise a worker has it, which says so from time to time (in_hand.lua); or it is lost, which two
-- checks in a row show. Checking a long backlog over and over would cost more than sending it, so the
-- checks become rarer; but one comes when nothing of the lane would be left, as nothing overtakes the
-- last that were entered.
local function wait_before_next_check(m)
  local left_ms = 1000 * (tonumber(open(KEY_LIVE).f[m.lane .. ':queued']) or 0) / answer[4]
  return math.max(ask_ms, math.min(now - m.published, left_ms))
end

local function suspect(m)
  if m.published == 0 or (oldest[m.lane] and #oldest[m.lane] == 0) then return wake(m) end
  local head = answer[3] ~= 'closed' and not answer.closed[m.lane] and heads[m.lane]
  if head and m.published + SLOW_MS < head then
    if m.overtaken then return wake(m) end
    set(m, 'overtaken', 1)
    return timer(m, math.min(now + ask_ms, m.expires))
  end
  drop(m, 'overtaken')
  timer(m, math.min(now + wait_before_next_check(m), m.expires))
end

-- Let a message's timer run out now, if it has one.
local function due_now(id)
  local m = redis.call('ZSCORE', KEY_TIMERS, id) and load(id)
  if not m then return true end
  timer(m, now)
  save(m)
  return true
end

-- Let one go on that was taken from a template's waiting room. One that cannot be processed has left it,
-- and would come to the end of its ttl.
local function let_go_on(id, act, ...)
  local is_done = apart('message', id, act, ...)
  if is_done == nil then redis.call('ZADD', KEY_TIMERS, 'XX', now + AGAIN_MS, id) end
  return is_done
end

-- What operators did, and what was set aside, to be logged by one worker.
redis.call('ZREMRANGEBYSCORE', KEY_BAD, '-inf', now - BAD_MS)
for _, words in ipairs(redis.call('LRANGE', KEY_TOLD, 0, -1)) do tell(words) end
redis.call('DEL', KEY_TOLD)

-- Let one go on that may be a probe; false where it must wait for its campaign, and does so there.
local function probe_by(id)
  local m = redis.call('ZSCORE', KEY_TIMERS, id) and load(id)
  if not (m and m.campaign and campaign_of(m).stop == 'paused') then return due_now(id) end
  wait_for_campaign(m)
  save(m)
  return false
end

-- Let one message through a pause now and then. An unused permit does not keep the
-- next from a template's waiting room: the one before may have expired.
local PROBED_AT_MOST = 50
local function permit_probe(scope, p)
  p.permit, p.probe_at = p.permit or now, now + probe_wait(scope)
  local template = template_of(scope)
  for n = 1, template and PROBED_AT_MOST or 0 do
    local first = redis.call('ZPOPMIN', KEY_WAITING .. template)[1]
    if not first or let_go_on(first, probe_by, first) ~= false then break end
    -- The rest at the next run: there may be more of the campaign than one act can take.
    if n == PROBED_AT_MOST then p.probe_at, answer[5] = now, 1 end
  end
  keep(scope, p)
end

local function look_at_pause(scope, p, gates)
  if p.unreadable then  -- its cause is not known, so an operator has to end it
    set_aside('pause', scope, 'its entry is malformed')
    p.unreadable = nil
    keep(scope, p)
  end
  if p.cause ~= 'operator' and now >= p.probe_at then permit_probe(scope, p) end
  local of = account_of(scope)
  if of then
    if not p.permit then gates[of] = 'closed' elseif not gates[of] then gates[of] = 'probe' end
  end
end

-- Return whether lanes are open, by what the pauses make of each account: they are while one of any
-- route is. Then the lanes follow that are closed all the same: each of their routes is.
local function gate(gates)
  if not ROUTES then return gates[''] or 'open' end
  local all, closed = 'closed', ''
  for _, lane in ipairs({'otp', 'notice', 'bulk'}) do
    local best = 'closed'
    for _, route in ipairs(ROUTES) do
      if (route.lane or lane) == lane then
        for _, of in ipairs(route) do
          if not gates[of] then best = 'open' elseif best == 'closed' then best = gates[of] end
        end
        if not route.template then break end
      end
    end
    if best == 'closed' then closed = closed .. ' ' .. lane end
    answer.closed[lane] = best == 'closed'
    if best == 'open' or all == 'closed' then all = best end
  end
  return all .. (all == 'open' and closed or '')
end

-- Note that the settings of whoever claimed last say another rate than those here, and when that was so
-- before: once may be the worker that this one took the place of.
local function compare_rates(of, own)
  local h = open(KEY_RATE .. of)
  local f = h.f
  local limit, burst = f.workers_limit, f.workers_burst
  if f.limit or not limit or not burst then return end  -- an operator's holds for all
  if limit == tostring(own.rate) and burst == tostring(own.burst) then return end
  table.insert(answer[7], {of:sub(2), limit, burst, tostring(own.rate), tostring(own.burst)})
  set(h, 'differed', f.differs or 0, 'differs', now, 'other_limit', limit, 'other_burst', burst)
end

-- Return the rate of all accounts together. Releases that do not know those with a key must not work
-- here any more, see ledger/accounts.py; that was so, but for what a failover undid.
local function look_at_rates()
  local sum = 0
  for of, one in pairs(ACCOUNTS or {[''] = {rate = RATE, burst = BURST}}) do
    compare_rates(of, one)
    set(open(KEY_RATE .. of), 'workers_limit', tostring(one.rate), 'workers_burst', one.burst)
    sum = sum + rate(of).now
    if of ~= '' then
      redis.call('SADD', KEY_ACCOUNTS, of:sub(2))
      if readable_by < WITH_ACCOUNTS then
        readable_by = WITH_ACCOUNTS
        redis.call('HSET', KEY_SCHEMA, 'readable_by', readable_by)
      end
    end
  end
  return sum
end

local function look_at_pauses_and_rate()
  local gates = {}
  for scope, text in pairs(open(KEY_PAUSES).f) do look_at_pause(scope, pause_of(text), gates) end
  answer[3] = gate(gates)
  answer[4] = tostring(look_at_rates())
end

-- Of several accounts: return whether one that has yet to try a message does not pause its template;
-- nil where none has yet to try it.
local function has_open_account(id)
  local m = ROUTES and load(id)
  local is_open
  for _, of in ipairs(m and untried(m) or {}) do
    local p = paused(template_at(of, m.template))
    is_open = is_open or not (p and stops_lane(p, m.lane))
  end
  return is_open
end

-- One that must wait on goes behind the others; return whether it is none.
local function release(room, id)
  if has_open_account(id) == false then
    redis.call('ZADD', room, now, id)
    return false
  end
  due_now(id)
  return true
end

-- What waited for templates goes on, `limit` of all at a time.
local function release_waiting()
  local templates = redis.call('SMEMBERS', KEY_RELEASED)
  local share = math.ceil(limit / #templates)
  for _, template in ipairs(templates) do
    local room = KEY_WAITING .. template
    local ids, is_any = redis.call('ZPOPMIN', room, share), false
    for i = 1, #ids, 2 do
      is_any = let_go_on(ids[i], release, room, ids[i]) ~= false or is_any
    end
    if #ids < 2 * share or not is_any then redis.call('SREM', KEY_RELEASED, template) end
  end
end

-- Workers of several settings, while they are replaced, may have let messages wait whose routes lead to
-- another account by now. A few of one template are looked at each time.
local FEW_WAITING = 10
local function look_at_waiting()
  local templates, seen = {}, {}
  for scope in pairs(open(KEY_PAUSES).f) do
    local template = template_of(scope)
    if template and not seen[template] then
      seen[template], templates[#templates + 1] = true, template
    end
  end
  if not templates[1] then return end
  local template = templates[now % #templates + 1]
  for _, id in ipairs(redis.call('ZRANDMEMBER', KEY_WAITING .. template, FEW_WAITING)) do
    if apart('message', id, has_open_account, id) then
      redis.call('SADD', KEY_RELEASED, template)
      return
    end
  end
end

local function go_on(m, how)
  if is_left_to_sweep(m) then return timer(m, now + UNSWEPT_MS) end
  if m.campaign and campaign_of(m).stop == 'cancelled' then return cancel(m) end
  if now >= m.expires then return expire(m) end
  how(m)
end

local DUE = {
  sending = function(m)  -- its worker died, or lives and will record late
    if m.f.test then  -- the gateway was not called
      set(m, m.n .. ':outcome', 'not_sent', m.n .. ':detail', 'lease ran out')
      if is_cancelled(m) then return cancel(m) end
      return defer(m, lost_wait_ms)
    end
    set(m, m.n .. ':outcome', 'maybe_sent', m.n .. ':detail', 'lease ran out')
    count('calls:maybe_sent')
    answered(m.of, false)
    follow_doubt(m, lost_wait_ms)
  end,
  accepted = function(m) finish(m, 'unreported') end,
  deferred = function(m) go_on(m, wake) end,
  queued = function(m) go_on(m, suspect) end,
}

local function run_out(id)
  local m = load(id)
  local act = m and DUE[m.state]
  limit = limit - 1
  if not act then
    -- Perhaps a newer release's.
    if m and not FINAL[m.state] and m.state ~= 'held' then error('its state is unknown') end
    score(KEY_TIMERS, id)
    return true
  end
  if not (is_line(id) and m.expires and m.lane and LANE[m.lane:sub(1, 1)] == m.lane) then
    error('its id, lane or ttl is malformed')
  end
  local was = m.state
  act(m)
  save(m)
  if was == 'sending' or FINAL[m.state] then limit = limit - ENDED + 1 end
  return true
end

local function try(id)
  if not apart('message', id, run_out, id) then score(KEY_TIMERS, id, now + AGAIN_MS) end
end

local function due_in(timers)
  write_scores()
  return redis.call('ZRANGEBYSCORE', timers, '-inf', now, 'LIMIT', 0, limit)
end

local function run_out_indexed(index)
  if limit <= 0 then return end  -- LIMIT takes less than 0 for all.
  for _, id in ipairs(due_in(index)) do
    if limit <= 0 then break end
    score(index, id)
    -- Older releases know no index: what one of them put off waits in KEY_TIMERS alone.
    local at = tonumber(redis.call('ZSCORE', KEY_TIMERS, id) or 'inf')
    if at <= now then try(id) end
  end
end

local function run_out_slice()
  local last = tonumber(redis.call('HGET', KEY_CLOCK, 'slice') or 0)
  if limit <= 0 or now < last + APART_MS then return end
  for _, id in ipairs(due_in(KEY_TIMERS)) do
    try(id)
    if limit <= 0 then
      redis.call('HSET', KEY_CLOCK, 'slice', now)
      answer[5] = 1
      return
    end
  end
end

local function push_woken()
  local ways = next(woken) and ARGV[6] ~= '' and cjson.decode(ARGV[6])
  for _, lane in ipairs({'otp', 'notice', 'bulk'}) do
    local ids = woken[lane] or {}
    if ways then push_all(lane, ways[lane], ids) else leave(lane, ids) end
  end
end

return whole_act(function()
  look_at_pauses_and_rate()
  if ROUTES then look_at_waiting() end
  release_waiting()
  local soonest = look_after_campaigns(wake)
  if soonest == 0 then answer[5] = 1 end
  for _, index in ipairs({KEY_LEASES, INDEXED.otp, INDEXED.notice}) do run_out_indexed(index) end
  run_out_slice()
  write_scores()
  local following = redis.call('ZRANGE', KEY_TIMERS, 0, 0, 'WITHSCORES')[2]
  if following then answer[2] = math.max(0, tonumber(following) - now) end
  if soonest then answer[2] = answer[2] < 0 and soonest or math.min(answer[2], soonest) end
  push_woken()
  return answer
end)
