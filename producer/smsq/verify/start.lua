-- Start a challenge and enter its message, or return the challenge that there is. Comes after
-- enqueue.lua and shared.lua.
--
-- ARGV[1] name of the challenge if it is a new one  ARGV[2] handle
-- ARGV[3] phone hash  ARGV[4] purpose  ARGV[5] pool  ARGV[6] template
-- ARGV[7] digest of the code  ARGV[8] ms for which the code is good  ARGV[9] id of the message
-- ARGV[10] ms until a next start sends again  ARGV[11..] what enqueue.lua takes, for one message
-- Returns the challenge's name, handle and message, when it ends and from when a start sends again
-- (Unix ms), '1' where no code passes it any more, and the state of the message where this call
-- entered it, else ''. The name is '' where there is none, as the number was guessed at too often.
--
-- One act, so that of two starts at once only one sends, and no crash leaves a challenge whose message
-- is not in the ledger: within its minute nothing would be sent. A call that is sent again finds its
-- own challenge, and enters nothing.

local function verify_start(_, ARGV)
  local name, handle, who, purpose, pool, template, digest, ttl, message, again = unpack(ARGV, 1, 10)
  local now = now_ms()
  local slot = KEY_CHALLENGED .. who .. ':' .. purpose
  local free = guessed_again_at(pool, who, now)

  local found = redis.call('GET', slot)
  local key = KEY_CHALLENGE .. (found or name)
  local own, tries, its_message, at, expires, used = unpack(redis.call('HMGET', key,
    pool .. ':handle', pool .. ':tries', 'message', 'at', 'expires', 'used'))
  if found and expires then
    if not own then
      own = handle
      redis.call('HSET', key, pool .. ':handle', handle, pool .. ':tries', 0)
    end
    local is_spent = used or free or tonumber(tries or 0) >= MOST_TRIES
    local state = found == name and redis.call('HGET', KEY_MESSAGE .. message, 'state') or ''
    if found ~= name then count_verification(template, 'again') end
    local left = redis.call('PTTL', slot)
    if left > tonumber(again) then  -- the clock was set back
      left = again
      redis.call('PEXPIRE', slot, again)
    end
    local next_at = math.max(free or 0, now + left)
    expires = end_of(key, at, expires, now)
    return {found, own, its_message, expires, next_at, is_spent and '1' or '', state}
  end
  if free then
    count_verification(template, 'exhausted')
    return {'', '', '', now, free, '1', ''}
  end

  -- It waits rather than fails where workers would find it too frequent: SMSQ_PHONE_LIMITS counts from
  -- when the last otp went, which is after its start.
  local entry = {unpack(ARGV, 11)}
  local last = tonumber(redis.call('LINDEX', KEY_SENT .. who, 0) or 0)
  local due = math.max(now, math.min(last, now) + again)
  if due > now then
    local rows = cjson.decode(entry[5])
    rows[1][5] = due
    entry[5] = cjson.encode(rows)
  end
  expires = due + ttl
  key = KEY_CHALLENGE .. name
  redis.call('HSET', key, 'who', who, 'purpose', purpose, 'template', template, 'digest', digest,
    'message', message, 'at', now, 'expires', expires, pool .. ':handle', handle, pool .. ':tries', 0)
  keep_challenge(key, expires, now)
  local state = enqueue(nil, entry)[1]
  redis.call('SET', slot, name, 'PX', again)
  count_verification(template, 'started')
  return {name, handle, message, expires, now + again, '', state}
end
