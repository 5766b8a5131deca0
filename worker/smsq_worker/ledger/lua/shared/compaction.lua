-- A final message is kept folded, in half the memory. Nothing is lost: smsq/compaction.py reads it,
-- and what comes after the end unfolds it.
-- needs: message
--
--   fold  "<enqueued> <accepted> <finished> <n> <lane> <phone> <stat>", in place of fields so called
--   <n>   "<at> <mid>", in place of the last attempt's, where it was accepted and the rest of it
--         says no more: an empty detail and the message's own stat
--
-- Times but the first are ms since then, the lane is its first letter, the number has no stars, and
-- what is not there is empty. Two fields, because Redis keeps a hash compact only while none is over
-- 64 bytes. An ordinary message is to fit into 128.

local LANE = {o = 'otp', n = 'notice', b = 'bulk'}

local function fold(m)
  local f, n = m.f, m.n
  if f.fold then return end
  local function after(time)
    return time and time - f.enqueued or ''
  end
  local last, stat = attempt(n), f.stat
  local at, mid = f[last.at], f[last.mid]
  local said_no_more = mid and f[last.outcome] == 'accepted' and f[last.detail] == ''
    and f[last.stat] == stat
  local lane, phone = f.lane:sub(1, 1), string.gsub(f.phone or '', '%*', '')
  local text = table.concat({f.enqueued, after(f.accepted), after(f.finished), n, lane, phone,
    stat or ''}, ' ')
  if said_no_more then
    set(m, text_of(n), after(at) .. ' ' .. mid)
    drop(m, last.at, last.mid, last.outcome, last.detail, last.stat)
  end
  drop(m, 'enqueued', 'accepted', 'finished', 'n', 'lane', 'phone', 'stat')
  set(m, 'fold', text)
end

local function unfold(m)
  if not m.f.fold then return end
  local enqueued, accepted, finished, n, lane, phone, stat =
    string.match(m.f.fold, '^(%S+) (%S*) (%S*) (%S+) (%S+) (%S*) (.*)$')
  m.n, m.lane = tonumber(n), LANE[lane]
  local function restore(name, value)
    if value ~= '' then set(m, name, value) end
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
  local begun, mid = string.match(m.f[n] or '', '^(%S+) (%S+)$')
  if mid then
    local last = attempt(m.n)
    set(m, last.mid, mid, last.outcome, 'accepted', last.detail, '')
    restore(last.at, time(begun))
    restore(last.stat, stat)
  end
  drop(m, 'fold', n)
  m.of = m.n > 0 and account_of_attempt(m.f, m.n) or ''
end
