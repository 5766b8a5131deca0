-- Cancel messages: see cancelling.lua, which comes before it.
--
-- ARGV[1] ms for which a final message is kept
-- ARGV[2] of an operator's act, who and what as JSON, see audit.lua; '' of a program's
-- ARGV[3...] ids
-- Returns for each, in order: {answer, state, reason}
--
-- One act, because a worker may admit a message at the same moment: whoever comes first decides, so a
-- message of which it was said that it is cancelled is never sent. A second call with the same ids (a
-- client that reconnects sends its command again) answers the same.

local function cancel(_, ARGV)
  local clock = redis.call('TIME')
  local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
  local answers, counts, has_changed = {}, {}, false
  for i = 3, #ARGV do
    local answer, state, reason, changed = cancel_message(ARGV[i], now, ARGV[1])
    local one = {answer, state, reason}
    has_changed = has_changed or changed
    answers[i - 2] = one
    counts[one[1]] = (counts[one[1]] or 0) + 1
  end
  note_act(ARGV[2], effect_of(counts), not has_changed)
  return answers
end
