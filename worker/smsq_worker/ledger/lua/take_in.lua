-- Keep reports until they are reconciled, and wake them up: see shared/inbox.lua.
-- needs: inbox
--
-- KEYS[1] inbox  ARGV[1] ms to when they are woken up again
-- ARGV[2] "<how many may wait whose mid is unknown> <how many in all>"  ARGV[3] how many are woken up
-- Where broker and ledger are one Redis, ARGV[4] the queue  ARGV[5] the wake-up of the only report, or
--   the envelope of several, with marks (wakeup.lua); '' where the caller publishes
-- ARGV[6..] members, at most 1000
-- Returns {numbers of those that the caller is to wake up now}, {of those for which there is no room},
--   counted from 0
--
-- One act, so that several APIs share one room, the time is this server's, and a report and its
-- wake-up are written together.

local unknown_at_most, at_most = string.match(ARGV[2], '^(%d+) (%d+)$')
return take_in(KEYS[1], tonumber(unknown_at_most), tonumber(at_most))
