-- A final message is kept folded, in half the memory. Nothing is lost: smsq/compaction.py reads it,
-- and what comes after the end unfolds it.
-- needs: base
--
--   fold  "<enqueued> <accepted> <finished> <n> <lane> <phone> <stat>", in place of fields so called
--   <n>   "<at> <mid>", in place of the last attempt's, where it was accepted and the rest of it
--         says no more: an empty detail and the message's own stat
--
-- Times but the first are ms since then, the lane is its first letter, the number has no stars, and
-- what is not there is empty. Two fields, because Redis keeps a hash compact only while none is over
-- 64 bytes. An ordinary message is to fit into 128.

local FOLDED = {'enqueued', 'accepted', 'finished', 'n', 'lane', 'phone', 'stat'}
local LANE = {o = 'otp', n = 'notice', b = 'bulk'}

local function attempt_fields(n)
  return n .. ':at', n .. ':mid', n .. ':outcome', n .. ':detail', n .. ':stat'
end

local function fold(m)
  if m.fold then return end
  local f = redis.call('HMGET', m.key, unpack(FOLDED))
  local at, mid, outcome, detail, stat = unpack(redis.call('HMGET', m.key, attempt_fields(m.n)))
  local said_no_more = mid and outcome == 'accepted' and detail == '' and stat == f[7]
  local function after(time)
    return time and time - f[1] or ''
  end
  local lane, phone = f[5]:sub(1, 1), string.gsub(f[6] or '', '%*', '')
  m.fold = table.concat({f[1], after(f[2]), after(f[3]), m.n, lane, phone, f[7] or ''}, ' ')
  redis.call('HDEL', m.key, unpack(FOLDED))
  if said_no_more then
    redis.call('HDEL', m.key, attempt_fields(m.n))
    redis.call('HSET', m.key, m.n, after(at) .. ' ' .. mid)
  end
  redis.call('HSET', m.key, 'fold', m.fold)
end

local function unfold(m)
  if not m.fold then return end
  local enqueued, accepted, finished, n, lane, phone, stat =
    string.match(m.fold, '^(%S+) (%S*) (%S*) (%S+) (%S+) (%S*) (.*)$')
  m.n, m.lane = tonumber(n), LANE[lane]
  local function restore(name, value)
    if value ~= '' then redis.call('HSET', m.key, name, value) end
  end
  local function time(after)
    return after == '' and '' or enqueued + after
  end
  restore('enqueued', enqueued)
  restore('accepted', time(accepted))
  restore('finished', time(finished))
  restore('n', m.n > 0 and n or '')
  restore('lane', m.lane)
  restore('phone', (string.gsub(phone, '^...', '%0****')))
  restore('stat', stat)
  local begun, mid = string.match(redis.call('HGET', m.key, n) or '', '^(%S+) (%S+)$')
  if mid then
    redis.call('HSET', m.key, n .. ':mid', mid, n .. ':outcome', 'accepted', n .. ':detail', '')
    restore(n .. ':at', time(begun))
    restore(n .. ':stat', stat)
  end
  redis.call('HDEL', m.key, 'fold', n)
  m.fold = nil
end
