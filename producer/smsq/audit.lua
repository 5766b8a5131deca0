-- The audit stream: what operators did, written in the act that does it.

-- About 30 MB at most; older entries go after a year.
local AUDIT_AT_MOST, AUDIT_MS = 100000, 365 * 86400000

-- Note an act {who, what, arguments, only if it changed anything} as JSON, see audit.py, and its effect,
-- in words; of '' nothing.
local function note_act(act, effect, changed_nothing)
  if not act or act == '' then return end
  local who, what, arguments, if_changed = unpack(cjson.decode(act))
  if if_changed and changed_nothing then return end
  redis.call('XADD', KEY_AUDIT, 'MAXLEN', '~', AUDIT_AT_MOST, '*', 'who', who, 'what', what,
    'arguments', arguments, 'effect', effect)
  local clock = redis.call('TIME')
  redis.call('XTRIM', KEY_AUDIT, 'MINID', '~', string.format('%.0f', clock[1] * 1000 - AUDIT_MS))
end

-- Return counts in words: "2 cancelled, 1 too late".
local function effect_of(counts)
  local names, words = {}, {}
  for name in pairs(counts) do names[#names + 1] = name end
  table.sort(names)
  for i, name in ipairs(names) do words[i] = counts[name] .. ' ' .. name end
  return table.concat(words, ', ')
end
