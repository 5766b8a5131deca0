-- Mids as the ledger knows them: "<mid>", or "<mid> <key of its account>".

-- Return what stands behind the keys of a mid's account, see rate.lua.
local function account_of_mid(mid)
  local account = mid:match(' (.*)$')
  return account and '@' .. account or ''
end
