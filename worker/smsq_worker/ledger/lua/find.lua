-- Search a slice of the ledger for messages to a number.
--
-- ARGV[1] cursor  ARGV[2] how many keys to look at, about  ARGV[3] the number, masked
-- ARGV[4...] its digests
-- Returns {next cursor, id, enqueued, id, enqueued, ...}; the cursor is 0 after the last slice.
--
-- One act for a slice, because a command for each message would cost the server ten times as much;
-- and no more than a slice, because all clients wait meanwhile. A message that comes or ends between
-- two slices may be missed, or come twice.

local masked, digests = ARGV[3], {}
for i = 4, #ARGV do digests[ARGV[i]] = true end
local folded = ' ' .. masked:gsub('%*', '') .. ' '

local slice = redis.call('SCAN', ARGV[1], 'MATCH', KEY_MESSAGE .. '*', 'COUNT', ARGV[2])
local answer = {slice[1]}
for _, key in ipairs(slice[2]) do
  local fold, digest, phone, enqueued = unpack(redis.call('HMGET', key, 'fold', 'who', 'phone',
    'enqueued'))
  local is_it
  if fold then
    is_it = fold:find(folded, 1, true) and fold:match('^%S+ %S* %S* %S+ %S+( %S* )') == folded
    enqueued = fold:match('^%S+')
  elseif digest then
    is_it = digests[digest]
  else
    is_it = phone == masked
  end
  if is_it then
    answer[#answer + 1] = key:sub(#KEY_MESSAGE + 1)
    answer[#answer + 1] = enqueued
  end
end
return answer
