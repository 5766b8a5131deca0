-- Keep those reports whose mid a message has, also at the memory limit: what they end takes less.
-- needs: inbox
--
-- As take_in.lua.

return take_in(KEYS[1], 0, tonumber(string.match(ARGV[2], '%d+$')))
