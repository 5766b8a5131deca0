-- What producers and workers do alike with idempotency keys.

-- Free a message's key, so that another message with it is sent; return whether that was so. If it names
-- another by now it stays. The second name is that of release 0.2.0, see key_holders.lua.
local function free_key(id, key)
  local freed = false
  for _, name in ipairs({KEY_IDEMPOTENCY .. key, KEY_IDEMPOTENCY .. key:sub(-32)}) do
    if redis.call('GET', name) == id then
      redis.call('DEL', name, name .. ':fp')
      freed = true
    end
  end
  return freed
end
