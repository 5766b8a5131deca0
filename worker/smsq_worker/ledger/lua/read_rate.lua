-- Read the rate of an account as it is now.
-- needs: rate
--
-- ARGV[1] the key of the account
-- Returns {events, limit, burst, attempts a second now, 1 where an operator set it,
--   ms of when it is at the limit again, or 0 where it is now}

local of = ARGV[1] == '' and '' or '@' .. ARGV[1]
local r, f, back_at = rate(of, true), open(KEY_RATE .. of).f, 0
if r.now < r.limit then
  local steps = math.ceil((r.limit - f.slow) / (RECOVERY * r.limit))
  back_at = r.slow_at + steps * RECOVERY_MS
end
return {events, tostring(r.limit), tostring(r.burst), tostring(r.now), f.limit and 1 or 0, back_at}
