-- The callbacks of a message that has ended: recorded in the act that ends it, so that none is lost.
-- needs: message

local TOLD_FIELDS = {'lane', 'reason', 'stat', 'detail', 'template', 'phone', 'reference', 'notify',
  'returnurl', 'caller', 'campaign', 'enqueued', 'accepted', 'finished', 'allowed', 'raw'}

-- Return the attempt that an end is of: the one that was reported on; where no report came, the one by
-- which it was sent, as those after it may have come to nothing.
local function attempt_told(m)
  local f = m.f
  local stat = m.state == 'delivered' and f.stat or string.match(f.reason or '', '^report:(.*)$')
  local is_sent = m.state == 'unreported'
  for n = m.n, 1, -1 do
    if stat and f[attempt(n).stat] == stat then return n end
    if is_sent and f[attempt(n).outcome] == 'accepted' then return n end
  end
  return m.n
end

local function announce(m)
  local f, kinds = m.f, {}
  if f.notify then kinds[#kinds + 1] = 'task' end
  if f.returnurl then kinds[#kinds + 1] = 'returnurl' end
  if WEBHOOK and (WEBHOOK_EACH or not f.campaign) then kinds[#kinds + 1] = 'webhook' end
  if #kinds == 0 then return end
  local final = {id = m.id, state = m.state, trace = m.trace}
  for _, field in ipairs(TOLD_FIELDS) do final[field] = f[field] end
  local n = attempt_told(m)
  if n > 0 then final.mid = f[n .. ':mid'] end
  -- What was reported of the attempt that counts: `stat` may be of one before it.
  if m.state == 'unreported' then final.last = f[n .. ':stat'] end
  local name = m.state .. ':' .. m.id
  redis.call('HSET', KEY_CALLBACK .. name, 'outcome', cjson.encode(final), 'since', now,
    'pending', #kinds)
  for _, kind in ipairs(kinds) do score(KEY_NOTICES, kind .. ':' .. name, now) end
end
