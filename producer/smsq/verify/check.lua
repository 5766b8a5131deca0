-- Check a code. Comes after shared.lua.
--
-- ARGV[1] name of the challenge  ARGV[2] handle  ARGV[3] what no other call has
-- ARGV[4] phone hash that it must be of, '' for any  ARGV[5] purpose that it must have, '' for any
-- ARGV[6..] the code's digest with each secret
-- Returns 'right'; 'wrong'; 'exhausted': its tries are used up, or those of the number in this hour;
-- 'used'; 'expired'; 'unknown'; 'mismatch': of another number or purpose.
--
-- One act, so that of two calls with the right code one wins, and none counts a try too few. A call
-- that is sent again, as its answer was lost, is answered again.

local function judged(key, pool, c, now, ARGV)
  if (ARGV[4] ~= '' and ARGV[4] ~= c.who) or (ARGV[5] ~= '' and ARGV[5] ~= c.purpose) then
    return 'mismatch'
  end
  if now >= end_of(key, c.at, c.expires, now) then return 'expired' end
  if c.used then return 'used' end
  if c.tries >= MOST_TRIES or guessed_again_at(pool, c.who, now) then return 'exhausted' end
  for i = 6, #ARGV do
    -- Lua compares strings by their address: the time shows nothing of where they differ.
    if ARGV[i] == c.digest then
      redis.call('HSET', key, 'used', now, 'winner', ARGV[3])
      return 'right'
    end
  end
  redis.call('HSET', key, pool .. ':tries', c.tries + 1)
  note_wrong(pool, c.who, now)
  return 'wrong'
end

local function verify_check(_, ARGV)
  local key, handle, call = KEY_CHALLENGE .. ARGV[1], ARGV[2], ARGV[3]
  local f = redis.call('HMGET', key, 'who', 'purpose', 'template', 'digest', 'expires', 'used',
    'known:handle', 'unknown:handle', 'at', 'winner')
  local pool = f[7] == handle and 'known' or f[8] == handle and 'unknown'
  if not (pool and f[5]) then return 'unknown' end
  local own = redis.call('HMGET', key, pool .. ':tries', pool .. ':call', pool .. ':answer')
  if own[2] == call then return own[3] end
  if f[10] == call then return 'right' end  -- another came between

  local c = {who = f[1], purpose = f[2], template = f[3], digest = f[4], expires = f[5], used = f[6],
    at = f[9], tries = tonumber(own[1])}
  local answer = judged(key, pool, c, now_ms(), ARGV)
  redis.call('HSET', key, pool .. ':call', call, pool .. ':answer', answer)
  count_verification(c.template, answer)
  return answer
end
