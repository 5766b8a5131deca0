-- Where there are several accounts: the guards that find one, and a slot there.
-- needs: guards

-- Whoever waits longer than that for a slot does not wait in a worker, in the way of others, in us.
local LONG = 1000000

-- One function, as what is in it is made only where there are several, and Lua takes 200 locals.
local function guards_of_several()
  local function is_stopped(of)
    local texts = open(KEY_PAUSES).f
    local account, breaker = texts['account' .. of], texts['breaker' .. of]
    return account and not pause_of(account).permit or breaker and not pause_of(breaker).permit
  end

  -- Return whether each account of each route is stopped; of each it is read once, as many routes may
  -- share it.
  local function all_stopped()
    local stopped = {}
    for _, route in ipairs(ROUTES) do
      for _, of in ipairs(route) do
        stopped[of] = stopped[of] or is_stopped(of)
        if not stopped[of] then return false end
      end
    end
    return true
  end

  -- A message that no account takes now, for what is known: how many for which cause.
  local function wait_for_account(m, go, causes)
    if causes.account and all_stopped() and not m.f.test then return {'paused'} end
    if m.f.unsent then
      drop(m, 'unsent')  -- They count again.
    elseif causes.template == causes.all then
      wait_for_template(m)
      return {'deferred', m.state}
    elseif causes.held == causes.all then
      return wait_for_number(m, causes.held_until, causes.is_listed)
    elseif causes.silent then
      return {'later', 100000}
    end
    local wait_ms = math.min(PROBE, 5000)
    -- Many that come round together would cost others of their time, so they come more rarely.
    if causes.account and m.lane ~= 'otp' then
      wait_ms = math.max(wait_ms, math.min(2 * tonumber(m.f.waits or 0), STOPPED))
    end
    return deferred(m, wait_ms)
  end

  -- An otp is no probe of an account while another takes it at once and there may be others to probe;
  -- nor is a message that would be held if the account is silent.
  local function is_spared(m, go)
    if m.lane ~= 'otp' and not m.hold_on_doubt then return false end
    for _, p in pairs(go.probes) do
      if now < p.permit + PROBE_IN_DOUBT then return true end
    end
    return false
  end

  -- Where it is sent again after a doubt, let those come last that did not answer: that one is silent
  -- is known of it only after many calls. Return the place of each among them.
  local function put_doubtful_last(m, tried)
    local since, places = doubted_at(m), {}
    for n, of in ipairs(tried) do places[of] = n + (since[of] or 0) * #tried end
    table.sort(tried, function(a, b) return places[a] < places[b] end)
    return since
  end

  -- Find the accounts through which a message may go now, but for their slots: `ways`.
  local function no_account(m, go)
    local tried, spared, causes = untried(m), {}, {all = 0, held_until = math.huge}
    if not tried[1] then
      drop(m, 'refused', 'unsent')  -- The settings are others by now, or an account failed it later.
      tried = accounts_of(m)
      if not tried[1] then
        return fits_nowhere(m, 'no account of its route has the template ' .. m.template)
      end
    end
    local doubtful = m.doubt and tried[2] and put_doubtful_last(m, tried) or {}
    go.ways, go.differs = {}, m.f.refused or m.f.unsent or m.f.via or next(doubtful)
    for _, of in ipairs(tried) do
      go.probes = {}
      local held, is_listed = held_until(m, of)
      local cause = held and 'held' or paused_at(of, m, go)
      local way = {of = of, rate = rate(of), probes = go.probes, doubtful = doubtful[of] or 0}
      if not cause and not m.f.test and is_silent(way.rate) then cause = 'silent' end
      if not cause then
        local found = is_spared(m, go) and spared or go.ways
        found[#found + 1] = way
      else
        go.differs = go.differs or cause ~= 'account' and cause ~= 'silent'
        causes[cause], causes.all = (causes[cause] or 0) + 1, causes.all + 1
        if held and held < causes.held_until then
          causes.held_until, causes.is_listed = held, is_listed
        end
      end
    end
    if not go.ways[1] then go.ways = spared end
    if not go.ways[1] then return wait_for_account(m, go, causes) end
  end

  -- Return whether messages of a lane may have other routes: then one that waits for its account must not
  -- hold up the others.
  local function several_routes(lane)
    local n = 0
    for _, route in ipairs(ROUTES) do
      if (route.lane or lane) == lane then
        n = n + 1
        if not route.template then break end
      end
    end
    return n > 1
  end

  -- Return an account's weight: the file's, or moved from that by steps, see domain/shares.py.
  local function weight_of(weight, moved)
    local steps, from = string.match(moved or '', '^(%-?%d+) (%d+)$')
    if tonumber(from or 0) ~= weight then return weight end
    return weight * SHARE_STEP ^ math.max(-SHARE_STEPS, math.min(SHARE_STEPS, tonumber(steps)))
  end

  -- Put ways in the order in which their route's weights give them the next message: each has to its
  -- credit what others got before it. Returns also what is to be done when one has taken it.
  local function by_weight(m, ways)
    local route, total, at = route_of(m), 0, {}
    if not route.weights or m.f.via then return false end
    local credits = open(KEY_WEIGHTS)
    for n, of in ipairs(route) do at[of] = n end
    local name = (route.lane or '') .. ' ' .. (route.template or '') .. ' '
    for n, way in ipairs(ways) do
      way.weight, way.field = route.weights[at[way.of]], name .. (way.of == '' and '@' or way.of)
      if route.prefer then way.weight = weight_of(way.weight, credits.f['share:' .. way.field]) end
      way.credit, way.n = (tonumber(credits.f[way.field]) or 0) + way.weight, n
      total = total + way.weight
    end
    table.sort(ways, function(a, b)
      if a.doubtful ~= b.doubtful then return a.doubtful < b.doubtful end
      if a.credit ~= b.credit then return a.credit > b.credit end
      return a.n < b.n
    end)
    return true, function(taken)
      for _, way in ipairs(ways) do
        local credit = way == taken and way.credit - total or way.credit
        set(credits, way.field, math.max(-total, math.min(total, credit)))
      end
    end
  end

  -- Take the first account that has a slot in time. An ordered route waits for the first that has one
  -- before the ttl is over, but an otp; a route with weights takes another that has one now.
  local function no_slot_at_any(m, go)
    local ways, booked, booked_at = go.ways, go.booked, go.booked_at
    local is_urgent, put_off = m.lane == 'otp' and ways[2], nil
    if booked ~= '' then
      for _, way in ipairs(ways) do
        if way.of == booked_at then
          go.of, go.rate, go.probes = way.of, way.rate, way.probes
          put_off = no_slot_yet(m, go)
          -- The rate may have fallen since: an otp looks for a slot elsewhere then.
          if not (put_off and is_urgent and put_off[2] > AHEAD.bulk) then return put_off end
        end
      end
      go.booked = ''
    end
    local is_weighted, charge = by_weight(m, ways)
    local soonest = math.huge
    for _, way in ipairs(ways) do
      go.of, go.rate, go.probes = way.of, way.rate, way.probes
      -- Nor does it wait long for an account that wants fewer than it may get.
      go.ahead = is_urgent and way.rate.now < way.rate.limit and AHEAD.bulk or nil
      local answer = put_off and way.of == booked_at and put_off or no_slot_yet(m, go)
      local is_booked = answer and answer[1] == 'booked'
      if is_booked and (answer == put_off or go.ahead and answer[2] > go.ahead) then
        put_off = put_off or answer
      elseif not answer or is_booked then
        if is_weighted and not m.f.test then charge(way) end
        return answer
      else
        soonest = math.min(soonest, answer[2])
        local in_time = us + answer[2] + AHEAD[m.lane] < m.expires * 1000
        if in_time and not is_weighted and m.lane ~= 'otp' then break end
      end
    end
    if put_off then return put_off end
    if not go.differs and not several_routes(m.lane) then return {'wait', soonest} end
    if soonest > LONG then return deferred(m, math.min(math.ceil(soonest / 1000), 5000)) end
    return {'later', soonest}
  end

  return no_account, no_slot_at_any
end
