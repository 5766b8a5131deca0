-- Numbers to which nothing is sent.
-- needs: base
--
-- An entry is {phone, reason, since, until} and holds for all lanes. One that does not has `lanes`
-- too: lane -> {reason, since, until}, and holds for those alone. The rest of it is then what lasts
-- longest: releases before 0.3.0 know no lanes, and hold it for all of them.

local SUPPRESSED_LANES = {'otp', 'notice', 'bulk'}

-- Return what an entry says of each lane.
local function by_lane(entry)
  if not entry then return {} end
  if entry.lanes then return entry.lanes end
  local all = {}
  for _, lane in ipairs(SUPPRESSED_LANES) do all[lane] = entry end
  return all
end

-- Return the entry that says so of each lane; nil where none is left.
local function entry_of(phone, of)
  local longest, lanes, is_same = nil, {}, true
  for _, lane in ipairs(SUPPRESSED_LANES) do
    local one = of[lane]
    if one then
      lanes[lane] = {reason = one.reason, since = one.since, ['until'] = one['until']}
      if not longest or one['until'] > longest['until'] then longest = lanes[lane] end
    end
  end
  if not longest then return nil end
  for _, lane in ipairs(SUPPRESSED_LANES) do
    local one = lanes[lane]
    is_same = is_same and one and one.reason == longest.reason and one.since == longest.since
      and one['until'] == longest['until']
  end
  return {phone = phone, reason = longest.reason, since = longest.since,
    ['until'] = longest['until'], lanes = not is_same and lanes or nil}
end

-- Return an entry with another laid over it, in some lanes or in all. Where both say something the
-- longer counts, unless the new one `replaces`: an operator may shorten it, and a report may not.
local function laid_over(entry, new, lanes, replaces)
  local of, news = by_lane(entry), by_lane(new)
  for _, lane in ipairs(lanes and lanes[1] and lanes or SUPPRESSED_LANES) do
    local old, one = of[lane], news[lane]
    if one and (replaces or not old or old['until'] < one['until']) then of[lane] = one end
  end
  return entry_of(new.phone ~= '' and new.phone or entry and entry.phone or '', of)
end

-- Return the entry of a phone hash; nil where there is none, or it is not one.
local function suppression_of(phone_hash)
  local text = redis.call('HGET', KEY_SUPPRESSED, phone_hash)
  local ok, entry = pcall(cjson.decode, text or '')
  return ok and type(entry) == 'table' and entry or nil
end
