-- Suppress a number, as an operator says: in some lanes, or in all.
-- needs: suppression audit
--
-- ARGV[1] phone hash  ARGV[2] the entry as JSON, of all lanes  ARGV[3] lanes as JSON, [] for all
-- ARGV[4] the operator's act, see audit.lua
--
-- One act, because a report may suppress it in another lane at the same moment.

local entry = laid_over(suppression_of(ARGV[1]), cjson.decode(ARGV[2]), cjson.decode(ARGV[3]), true)
redis.call('HSET', KEY_SUPPRESSED, ARGV[1], cjson.encode(entry))
note_act(ARGV[4], 'suppressed')
