-- Lift the suppression of a number, as an operator says: in some lanes, or in all.
-- needs: suppression audit
--
-- ARGV[1] lanes as JSON, [] for all  ARGV[2] the operator's act, see audit.lua
-- ARGV[3...] phone hashes under which it may be kept
-- Returns how many of them were suppressed there
--
-- One act, because a report may suppress it in another lane at the same moment.

local given, count = cjson.decode(ARGV[1]), 0
local lanes = given[1] and given or SUPPRESSED_LANES
for i = 3, #ARGV do
  local phone_hash = ARGV[i]
  local entry = suppression_of(phone_hash)
  local of, was = by_lane(entry), false
  for _, lane in ipairs(lanes) do
    was = was or of[lane] ~= nil
    of[lane] = nil
  end
  if was then
    local left = entry_of(entry.phone, of)
    if left then
      redis.call('HSET', KEY_SUPPRESSED, phone_hash, cjson.encode(left))
    else
      redis.call('HDEL', KEY_SUPPRESSED, phone_hash)
    end
    count = count + 1
  end
end
note_act(ARGV[2], count > 0 and 'removed' or 'was not suppressed')
return count
