-- How a final message is kept: folded, in half the memory; prepended before common.lua. What it
-- keeps is the same: smsq/folded.py reads it, and news that comes after the end unfolds it.
--
--   folded  "<enqueued> <accepted> <finished> <phone> <stat>", in place of fields of these names
--   <n>     "<at> <mid>", in place of the last attempt's, where it was accepted and the rest of it
--           says no more: an empty detail and the message's own stat
--
-- Times but the first are ms since then; what is not there is empty. No field is longer than the
-- 64 bytes with which a hash is still one piece of memory, but for unusual mids and stats.

local MESSAGE = {'enqueued', 'accepted', 'finished', 'phone', 'stat'}

local function attempt_fields(n)
  return n .. ':at', n .. ':mid', n .. ':outcome', n .. ':detail', n .. ':stat'
end

local function fold(m)
  if m.folded then return end
  local enqueued, accepted, finished, phone, stat = unpack(redis.call('HMGET', m.key, unpack(MESSAGE)))
  local at, mid, outcome, detail, said = unpack(redis.call('HMGET', m.key, attempt_fields(m.n)))
  local function after(time)
    return time and time - enqueued or ''
  end
  m.folded = table.concat({enqueued, after(accepted), after(finished), phone or '', stat or ''}, ' ')
  redis.call('HDEL', m.key, unpack(MESSAGE))
  if mid and outcome == 'accepted' and detail == '' and said == stat then
    redis.call('HDEL', m.key, attempt_fields(m.n))
    redis.call('HSET', m.key, m.n, after(at) .. ' ' .. mid)
  end
  redis.call('HSET', m.key, 'folded', m.folded)
end

local function unfold(m)
  if not m.folded then return end
  local enqueued, accepted, finished, phone, stat =
    string.match(m.folded, '^(%S+) (%S*) (%S*) (%S*) (.*)$')
  local function set(name, value)
    if value ~= '' then redis.call('HSET', m.key, name, value) end
  end
  local function at(after)
    return after == '' and '' or enqueued + after
  end
  set('enqueued', enqueued)
  set('accepted', at(accepted))
  set('finished', at(finished))
  set('phone', phone)
  set('stat', stat)
  local begun, mid = string.match(redis.call('HGET', m.key, m.n) or '', '^(%S+) (%S+)$')
  if mid then
    set(m.n .. ':at', at(begun))
    set(m.n .. ':stat', stat)
    redis.call('HSET', m.key, m.n .. ':mid', mid, m.n .. ':outcome', 'accepted', m.n .. ':detail', '')
  end
  redis.call('HDEL', m.key, 'folded', m.n)
  m.folded = nil
end
