-- Return callbacks that are due, and put off their next wake-up.
-- needs: set_aside message announce compaction clock_step receivers
--
-- ARGV[1] how many at most  ARGV[2] ms to the next wake-up
-- Returns {events, 1 where more may be due, name, ...}
--
-- One act, so that two workers do not publish the same ones. What waits for an endpoint in backoff is put
-- off here: of one that was away for a day there may be a million, and others would wait behind them.

-- So many are looked at where any endpoint is in backoff.
local LOOKED_AT = 300
local answer = {events, 0}
local is_any_resting = redis.call('EXISTS', KEY_RECEIVERS) == 1
local overs = {}

local function noted_over(receiver)
  overs[receiver] = overs[receiver] or noted(receiver).over
  return overs[receiver]
end

-- Return the end of the backoff of a callback's endpoint; 0 where that is not known.
local function resting_until(name)
  local kind, key = callback_of(name)
  local outcome = kind == 'returnurl' and redis.call('HGET', key, 'outcome') or ''
  local ok, to = pcall(receivers_of, kind, outcome)
  return ok and math.max(noted_over(to[1]), noted_over(to[2])) or 0
end

local function announce_new(id, state)
  local m = load(id)
  if m then
    unfold(m)  -- There may have been late news of it.
    if m.state == state then announce(m) end  -- Whoever moved it on has announced that.
    count_end_of_new(m, state)
  end
  return true
end

-- Claim one; return false where it is only put off.
local function claim(name)
  local state, new = string.match(name, '^new:(%l+):(.*)$')
  if new and apart('notice', name, announce_new, new, state) then
    score(KEY_NOTICES, name)
  elseif not new and is_line(name) and name:find('^%l+:%l+:.') then
    local over = is_any_resting and resting_until(name) or 0
    if now < over then
      score(KEY_NOTICES, name, over)
      return false
    end
    score(KEY_NOTICES, name, now + tonumber(ARGV[2]))
    answer[#answer + 1] = name
  else
    score(KEY_NOTICES, name, now + AGAIN_MS)
    if not new then set_aside('notice', name, 'its name is malformed') end
  end
  return true
end

return whole_act(function()
  local at_most, count = tonumber(ARGV[1]), 0
  local looked_at = is_any_resting and math.max(LOOKED_AT, at_most) or at_most
  local due = redis.call('ZRANGEBYSCORE', KEY_NOTICES, '-inf', now, 'LIMIT', 0, looked_at)
  for _, name in ipairs(due) do
    if claim(name) then count = count + 1 end
    if count == at_most then return answer end
  end
  if #due == looked_at then answer[2] = 1 end
  return answer
end)
