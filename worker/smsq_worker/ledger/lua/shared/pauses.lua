-- Pauses: sending stops for the account, during an outage, or for a template.
-- needs: write_behind
--
-- Their scopes are 'account', 'breaker' and 'template:<name>'; of an account with a key, of which
-- there are several then, 'account@<key>', 'breaker@<key>' and 'template@<key>:<name>'. A pause holds
--   cause: operator, report, refusals or outage; detail, since, probe_at, and
--   permit: since when one message may go as a probe, absent where none may; and
--   lanes: of a template, which of them it stops; absent: all. Older releases stop all.
--
-- An attempt that began before the last resumption tells nothing of how it is now.

local TEMPLATE_PROBE = 20  -- times PROBE: the vendor approves templates by hand

-- Return the template of a scope, and the account's part of it; nil for account and breaker.
local function template_of(scope)
  if scope:sub(1, 8) ~= 'template' then return nil end
  local of, template = scope:match('^template(@?[^:]*):(.*)$')
  return template, of
end

-- Return the scope of a template's pause at an account.
local function template_at(of, template)
  return 'template' .. of .. ':' .. template
end

-- Return the account's part of a scope that is not a template's.
local function account_of(scope)
  return scope:match('^account(.*)$') or scope:match('^breaker(.*)$')
end

-- Read a pause. A malformed one counts as an operator's: nothing goes until its cause is known.
local function pause_of(text)
  local ok, p = pcall(cjson.decode, text)
  if ok and type(p) == 'table' and type(p.cause) == 'string' and type(p.detail) == 'string'
      and type(p.since) == 'number' and type(p.probe_at) == 'number'
      and (p.lanes == nil or type(p.lanes) == 'table') then return p end
  return {cause = 'operator', detail = 'its entry was none', since = now, probe_at = now,
    unreadable = true}
end

local function paused(scope)
  local text = open(KEY_PAUSES).f[scope]
  return text and pause_of(text)
end

local function keep(scope, p)
  set(open(KEY_PAUSES), scope, cjson.encode(p))
end

local function probe_wait(scope)
  return template_of(scope) and TEMPLATE_PROBE * PROBE or PROBE
end

-- When scopes were last resumed, of which there is one for each template that ever was.
local resumed_at = {}

local function since_resumed(scope, begun)
  resumed_at[scope] = resumed_at[scope] or redis.call('HGET', KEY_RESUMED, scope) or 0
  return came_after(begun, resumed_at[scope])
end

local function stops_lane(p, lane)
  if not p.lanes then return true end
  for _, one in ipairs(p.lanes) do
    if one == lane then return true end
  end
  return false
end

-- An operator's pause replaces any other, and no other replaces it. With a lane it is for that one
-- alone: another lane joins a pause that is there.
local function pause(scope, cause, detail, lane)
  local before = paused(scope)
  if before and (before.cause == 'operator' or cause ~= 'operator') then
    if not lane or stops_lane(before, lane) then return false end
    before.lanes[#before.lanes + 1] = lane
    keep(scope, before)
    tell('paused ' .. scope .. ' in lane ' .. lane .. ' too: ' .. detail)
    return true
  end
  keep(scope, {cause = cause, detail = detail, since = now, probe_at = now + probe_wait(scope),
    lanes = lane and {lane}})
  local template = template_of(scope)
  if template then redis.call('SREM', KEY_RELEASED, template) end
  tell('paused ' .. scope .. (lane and ' in lane ' .. lane or '') .. ' (' .. cause .. ')' .. (detail ~= '' and ': ' .. detail or ''))
  return true
end

local function resume(scope, why)
  if not open(KEY_PAUSES).f[scope] then return false end
  drop(open(KEY_PAUSES), scope)
  resumed_at[scope] = now
  redis.call('HSET', KEY_RESUMED, scope, now)
  local template, of = template_of(scope)
  if template then
    discard(KEY_REPORTS .. of .. ':' .. template)
    redis.call('SADD', KEY_RELEASED, template)
  elseif scope:sub(1, 7) == 'account' then
    drop(open(KEY_HEALTH .. account_of(scope)), 'refusals')
  elseif scope:sub(1, 7) == 'breaker' then
    discard(KEY_RECENT_ATTEMPTS .. account_of(scope))
  end
  tell('resumed ' .. scope .. ': ' .. why)
  return true
end

-- A probe got through: resume, if the pause has that cause and the probe began after it. What goes in
-- a lane that is not paused is no probe.
local function heal(scope, cause, begun, lane)
  local p = paused(scope)
  if p and p.cause == cause and came_after(begun, p.since) and stops_lane(p, lane) then
    resume(scope, 'a probe got through')
  end
end
