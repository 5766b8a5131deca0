-- The rate of an account for all workers: the limit, and what is left of it while the gateway wants
-- less.
-- needs: write_behind
--
-- `of` is what stands behind the names of an account's keys and scopes: "", or "@" and its key.

local SLOWEST = 1 / 16                       -- of the limit
local RECOVERY, RECOVERY_MS = 1 / 10, 10000  -- of the limit, in each such time

-- Read the rate, once in an act. What the gateway took away comes back step by step. `as_workers`: by
-- their settings, not by those of whoever asks.
local function rate(of, as_workers)
  local h = open(KEY_RATE .. of)
  if h.rate then return h.rate end
  local f, own = h.f, ACCOUNTS and ACCOUNTS[of]
  local limit, burst
  if as_workers or of ~= '' and not own then limit, burst = f.workers_limit, f.workers_burst end
  local r = {of = of, limit = tonumber(f.limit) or tonumber(limit) or own and own.rate or RATE,
    burst = tonumber(f.burst) or tonumber(burst) or own and own.burst or BURST, tat = tonumber(f.tat) or 0,
    slow_at = tonumber(f.slow_at) or 0, since = tonumber(f.since) or 0}
  local steps = math.max(0, math.floor((now - r.slow_at) / RECOVERY_MS))
  local slow = tonumber(f.slow) and f.slow + steps * RECOVERY * r.limit or r.limit
  r.now = math.min(r.limit, math.max(slow, r.limit * SLOWEST))
  h.rate = r
  return r
end

-- The gateway says that attempts come too fast. One begun before the last step says nothing new.
local function slow_down(of, begun, why)
  local r = rate(of)
  if not came_after(begun, r.slow_at) then return end
  local slow = math.max(r.now / 2, r.limit * SLOWEST)
  local h = open(KEY_RATE .. of)
  set(h, 'slow', tostring(slow), 'slow_at', now)
  h.rate = nil
  if slow < r.now then
    local where = of == '' and '' or ' ' .. of:sub(2)
    tell(string.format('slowed down%s to %g of %g calls a second: %s', where, slow, r.limit, why))
  end
end
