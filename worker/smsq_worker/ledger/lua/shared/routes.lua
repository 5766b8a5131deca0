-- Which accounts a message may go through, where there are several.
-- needs: pauses ends
--
-- ACCOUNTS and ROUTES are of the settings; both are nil where there is one account, and nothing here
-- is called then. An account is named by what stands behind its keys, see rate.lua:
--
--   ACCOUNTS  ''|'@<key>' -> rate, burst, and `only`: the templates that it has, absent: all
--   ROUTES    each a list of accounts in the order in which they are tried, with `weights` of each;
--             `lane` and `template` of the messages for which it is, absent: of all
--
-- Of a message `refused` has the first reason and the accounts that refused it: none of them is asked
-- again while there are others. `unsent` has those at which it did not arrive: they count again after
-- a backoff, when each has had its try.

-- Where the cause of a failure lies that another account may not have.
local ELSEWHERE = {account = 1, route = 1, template = 1}

local function is_word(list, word)
  return (' ' .. list .. ' '):find(' ' .. word .. ' ', 1, true) ~= nil
end

local function is_in(list, of)
  return list and is_word(list, of == '' and '@' or of)
end

-- Note that an account refused a message for a reason, or without one that it did not arrive there.
local function note_untaken(m, of, reason)
  local field = reason and 'refused' or 'unsent'
  local list = m.f[field] or reason or ''
  if not is_in(list, of) then set(m, field, list .. ' ' .. (of == '' and '@' or of)) end
end

-- Return the first of ROUTES that a message matches.
local function route_of(m)
  for _, route in ipairs(ROUTES) do
    if (route.lane or m.lane) == m.lane and (route.template or m.template) == m.template then
      return route
    end
  end
  return {}
end

-- Return the accounts of a message's route that know its template; of a probe, which is for one
-- account, that one alone.
local function accounts_of(m)
  local found, probed = {}, m.f.via == '@' and '' or m.f.via
  if probed then return ACCOUNTS[probed] and {probed} or {} end
  for _, of in ipairs(route_of(m)) do
    local one = ACCOUNTS[of]
    if one and (not one.only or one.only[m.template]) then found[#found + 1] = of end
  end
  return found
end

-- Return those of them that have not refused the message, and at which it may yet arrive.
local function untried(m)
  local found = {}
  for _, of in ipairs(accounts_of(m)) do
    if not is_in(m.f.refused, of) and not is_in(m.f.unsent, of) then found[#found + 1] = of end
  end
  return found
end

-- Return the reason for which a message fails that all its accounts have refused.
local function first_reason(m)
  return string.match(m.f.refused or '', '^%S+')
end

-- Let a message go on to another account at once, if there is one that has not had it; return whether
-- there is. It costs no resend. `in_hand`: whoever records this asks for it next, as if for a wake-up;
-- if he dies, that wake-up is lost, which its timer finds out.
local function goes_elsewhere(m, in_hand)
  if is_cancelled(m) or not untried(m)[1] then return false end
  drop(m, 'doubt')
  if in_hand and m.state == 'sending' then
    m.published = now
    move(m, 'queued', 'published', now)
    drop(m, 'overtaken')
    timer(m, math.min(now + FIRST_CHECK, m.expires))
  elseif m.state ~= 'queued' then
    defer(m, 0)
  end
  return true
end

-- Return the accounts that left a doubt about a message, each with the last attempt that did.
local function doubted_at(m)
  local last = {}
  for n = math.max(1, m.n - 7), m.n do
    local outcome = m.f[attempt(n).outcome]
    if not outcome or outcome == 'maybe_sent' then last[account_of_attempt(m.f, n)] = n end
  end
  return last
end

-- Return how long a resend after a doubt waits: not at all where an account of its route has left no
-- doubt about the message, as a backoff is for the account that did not answer.
local function wait_after_doubt(m, wait_ms)
  local doubted = doubted_at(m)
  for _, of in ipairs(untried(m)) do
    if not doubted[of] then return 0 end
  end
  return wait_ms
end
