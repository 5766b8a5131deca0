-- What the messages of an act have in common is read once and written once, when the act ends: sums
-- of counters, scores of sorted sets, small hashes. Nobody can look in between.
-- needs: hashes
--
-- An act that changes anything by these functions does so within `whole_act`. Messages themselves are
-- written one by one (message.lua), so that an error in one leaves those before it complete.

local sums, scores, pushed, opened, unread, endings = {}, {}, {}, {}, {}, {}

local function part(all, key)
  local one = all[key]
  if not one then
    one = {}
    all[key] = one
  end
  return one
end

local function add(key, field, by)
  local sum = part(sums, key)
  sum[field] = (sum[field] or 0) + by
end

local function count(name)
  add(KEY_COUNTERS, name, 1)
end

-- Count under a name that release 0.1.0 does not know: its API fails on such a one in KEY_COUNTERS.
local function count_since_0_3(name)
  add(KEY_DURATIONS, name, 1)
end

-- Give a member of a sorted set a score; without one remove it.
local function score(key, member, at)
  part(scores, key)[member] = at or false
end

-- Return a small hash that many look at. It is written when the act ends.
local function open(key)
  local h = opened[key]
  if not h then
    h = {key = key, f = read_fields(key)}
    opened[key] = h
  end
  return h
end

-- Drop a field of such a hash, which is not read for that.
local function drop_unread(key, field)
  if opened[key] then return drop(opened[key], field) end
  local fields = part(unread, key)
  if not fields[field] then redis.call('HDEL', key, field) end
  fields[field] = true
end

-- Delete what was opened or pushed to, now.
local function discard(key)
  opened[key], pushed[key] = nil, nil
  redis.call('DEL', key)
end

local function at_end(ending)
  endings[#endings + 1] = ending
end

local function add_up(sums, field, by)
  sums[field] = (sums[field] or 0) + by
end

-- Have what was counted under a name written when the act ends; that fails for itself alone.
local function count_at_end(counted, name, what, write)
  at_end(function()
    local own = counted[name]
    counted[name] = nil
    local ok, why = pcall(write, name, own, now)
    if ok then return end
    tell('counting ' .. what .. ' failed: ' .. tostring(type(why) == 'table' and why.err or why))
  end)
end

-- Put values at the head of a list of which so many are kept, if there is one, when the act ends or by
-- write_pushed.
local function write_pushed(key)
  local list = pushed[key]
  if not list then return end
  pushed[key] = nil
  local length = redis.call('LPUSHX', key, unpack(list))
  if length > list.kept then redis.call('LTRIM', key, 0, list.kept - 1) end
end

local function push(key, value, kept)
  local list = pushed[key]
  if not list then
    list = {kept = kept}
    pushed[key] = list
    at_end(function() write_pushed(key) end)
  end
  list[#list + 1] = value
end

-- Call with arguments of which there may be more than fit on Lua's stack.
local function call_with_many(command, key, args)
  for i = 1, #args, 1000 do
    redis.call(command, key, unpack(args, i, math.min(i + 999, #args)))
  end
end

-- Write scores now, because what follows reads them.
local function write_scores()
  for key, of_members in pairs(scores) do
    scores[key] = nil
    local put, removed = {}, {}
    for member, at in pairs(of_members) do
      if at then
        put[#put + 1] = at
        put[#put + 1] = member
      else
        removed[#removed + 1] = member
      end
    end
    call_with_many('ZADD', key, put)
    call_with_many('ZREM', key, removed)
  end
end

-- A counter that is no number must not cost the act its answer: what it did is written by now.
local function write_sums()
  for key, sum in pairs(sums) do
    for field, by in pairs(sum) do
      local answer = by ~= 0 and redis.pcall('HINCRBY', key, field, by)
      if type(answer) == 'table' then tell('counting ' .. field .. ' failed: ' .. answer.err) end
    end
  end
end

-- Each thing is taken away before it is written, so that a second call writes the others.
local function write_all()
  write_scores()
  while endings[1] do table.remove(endings)() end
  for key, h in pairs(opened) do
    opened[key] = nil
    write(h)
    if h.lasts then redis.call('PEXPIRE', key, h.lasts) end
  end
end

-- Do an act; write what is left of it, also where it fails, for some of its messages are written.
local function whole_act(act)
  local ok, answer = pcall(act)
  repeat
    local written, why = pcall(write_all)
    if ok and not written then ok, answer = false, why end
  until written
  write_sums()
  if not ok then error(answer, 0) end
  return answer
end
