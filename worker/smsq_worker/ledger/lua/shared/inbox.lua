-- How reports are taken in: as many as may wait, however many come.
--
-- Whoever has the report address can invent reports, and as many as there are mids. A report on a mid
-- that a message has is the gateway's, and one that no message has (yet) may be: so these have a small
-- share of the room, and a flood of them leaves the rest to the others. What waits already is not
-- taken in again, and not woken up again: its wake-up is on its way, or its time will come.
-- needs: mids wakeup

-- Return whether a message has the mid of a report "[mid, stat]".
local function is_known(member)
  return redis.call('EXISTS', KEY_MID .. cjson.decode(member)[1]) == 1
end

-- Return whether it waits already, by a write that changes nothing: ZSCORE is not for everyone.
local function waits(inbox, member)
  return redis.call('ZADD', inbox, 'XX', 'INCR', 0, member)
end

-- Return whether there is a little more room for a report: where one account's flood has filled the
-- room of unknown mids, the others still have as much together. Whose they are, those show that are
-- next: it is asked rarely, and no count has to be kept.
local SAMPLE = 100
local shares
local function has_share(inbox, member)
  if not shares then
    shares = {all = 0, of = {}}
    for _ in pairs(ACCOUNTS) do shares.all = shares.all + 1 end
    local found = redis.call('ZRANGEBYSCORE', inbox, '-inf', '+inf', 'LIMIT', 0, SAMPLE)
    for _, one in ipairs(found) do
      local of = account_of_mid(cjson.decode(one)[1])
      shares.of[of] = (shares.of[of] or 0) + 1
    end
  end
  return (shares.of[account_of_mid(cjson.decode(member)[1])] or 0) * shares.all < SAMPLE
end

-- Push the wake-up of reports, if it is this act's. Returns whether that was done.
local function is_woken(members)
  local queue, wakeup = ARGV[4], ARGV[5]
  if queue == '' or not members[1] then return false end
  if #ARGV > 6 then  -- that of one has no marks
    local id = unique('reports ' .. members[1])
    local shown = ('(%d reports)'):format(#members)
    if not members[2] then shown = in_json(("('%s', '%s')"):format(unpack(cjson.decode(members[1])))) end
    local reports = '[' .. table.concat(members, ', ') .. ']'
    wakeup = filled(wakeup, {ID = id, TAG = id, ARGUMENTS = shown, REPORTS = in_json(reports)})
  end
  return is_pushed(queue, wakeup)
end

-- Keep reports, and set the time at which each is woken up again.
--
-- ARGV: see take_in.lua.
local function take_in(inbox, unknown_at_most, at_most)
  local clock = redis.call('TIME')
  local due = clock[1] * 1000 + math.floor(clock[2] / 1000) + tonumber(ARGV[1])
  local size, wake, woken, refused = redis.call('ZCARD', inbox), {}, {}, {}
  local function is_taken(member)
    if size < unknown_at_most then return true end
    if size >= at_most or waits(inbox, member) then return false end
    return is_known(member) or ACCOUNTS and size < 2 * unknown_at_most and has_share(inbox, member)
  end
  for i = 6, #ARGV do
    local member = ARGV[i]
    if is_taken(member) then
      if redis.call('ZADD', inbox, 'NX', due, member) == 1 then
        size = size + 1
        if size <= tonumber(ARGV[3]) then
          wake[#wake + 1], woken[#woken + 1] = i - 6, member
        end
      end
    elseif not waits(inbox, member) then
      refused[#refused + 1] = i - 6
    end
  end
  return {is_woken(woken) and {} or wake, refused}
end
