-- Read the rate of an account as it is now.
-- needs: rate
--
-- ARGV[1] the key of the account
-- Returns {events, limit, burst, attempts a second now, 1 where an operator set it,
--   ms of when it is at the limit again, or 0 where it is now, then where the settings of workers that
--   run now say two rates: limit and burst of the one, limit and burst of the other}

local of = ARGV[1] == '' and '' or '@' .. ARGV[1]
local r, f, back_at = rate(of, true), open(KEY_RATE .. of).f, 0
if r.now < r.limit then
  local steps = math.ceil((r.limit - f.slow) / (RECOVERY * r.limit))
  back_at = r.slow_at + steps * RECOVERY_MS
end
local answer = {events, tostring(r.limit), tostring(r.burst), tostring(r.now), f.limit and 1 or 0, back_at}

-- Each worker claims twice a second, and notes what the one before it said: see claim.lua.
local STALE_MS = 5000
local differs, differed = tonumber(f.differs or 0), tonumber(f.differed or 0)
if not f.limit and now - differs < STALE_MS and differs - differed < STALE_MS then
  for _, one in ipairs({f.workers_limit, f.workers_burst, f.other_limit, f.other_burst}) do
    answer[#answer + 1] = one
  end
end
return answer
