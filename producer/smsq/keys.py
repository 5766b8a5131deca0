"""The ledger's key schema, written once; scripts get the names from here (`fill_in`).

All keys start with "smsq:" and live in one database.

| key | type | holds | lives |
| --- | --- | --- | --- |
| smsq:schema      | hash   | version: of this table, absent where release 0.1.0 wrote it; readable_by: the oldest version whose workers may work here, see ledger/migrations.py; now, back, stepped: the latest time that a worker's clock saw, and how far the server's was set back and when | for ever |
| smsq:m:<id>      | hash   | a message, fields below | until final, then SMSQ_RETENTION_S |
| smsq:ids         | zset   | the hours in which messages were entered, counted from 1970, as of SMSQ_INDEX | 800 d |
| smsq:ids:<hour>  | list   | ids of the messages entered in it, the newest last; a UUID as a zero and its 16 bytes | SMSQ_RETENTION_S after the latest could be forgotten |
| smsq:p:<id>      | string | its payload, JSON [phone, code], each encrypted where SMSQ_PAYLOAD_KEYS is set; once it has failed, expired or is unreported also what `smsq redo` needs, [..., key, its fingerprint, phone hash, hold] | until final; of the lanes notice and bulk SMSQ_REDO_S longer where it may be sent again |
| smsq:lookup      | string | the key of the digests below, where SMSQ_PAYLOAD_KEYS is set: encrypted with each of them, see smsq/cipher.py | for ever |
| smsq:k:<digest>  | string | id of the message that holds an idempotency key of a Python caller | 24 h, or SMSQ_REDO_S if that is longer |
| smsq:k:relay:<caller>:<digest>, smsq:k:file:<digest> | string | the same, of a caller of the relay and of smsq send-file; release 0.2.0 looks under <digest> alone, so the id is kept there too | 24 h, or SMSQ_REDO_S if that is longer |
| smsq:k:...:fp    | string | beside each of them: fingerprint of the number and the template for which it was taken; where 0.2.0 looks, for keys that are no Python caller's, "@" and their namespace; absent where 0.2.0 took it | 24 h, or SMSQ_REDO_S if that is longer |
| smsq:mid:<mid>   | string | "<attempt> <id>" of the attempt that the gateway answered with this mid; of a mid given to two messages "reused", their ids, with tabs between and blanks as newlines: it leads to neither | SMSQ_REPORT_WAIT_S + SMSQ_RETENTION_S; once it is delivered at most a day, in which reports may be repeated |
| smsq:early:<mid> | list   | reports whose mid leads to no message (yet), as JSON | SMSQ_REPORT_WAIT_S |
| smsq:parked      | zset   | mids of smsq:early:*, by arrival | trimmed after SMSQ_REPORT_WAIT_S |
| smsq:inbox       | zset   | reports taken in and not yet reconciled, as JSON [mid, stat], by the time of the next wake-up | until reconciled |
| smsq:notices     | zset   | callbacks to dispatch, "<kind>:<state>:<id>", by the time of the next try; kind "new": its endpoints are still to be determined | until acknowledged |
| smsq:notices:dead | zset  | those given up, by when | SMSQ_RETENTION_S |
| smsq:o:<state>:<id> | hash | outcome: the message's final status as JSON, since; pending: kinds still to dispatch; <kind>:tries, <kind>:taken, <kind>:error | until acknowledged, or given up |
| smsq:receivers   | hash   | endpoint that failed -> "<failures in a row> <end of its backoff>": task, webhook, returnurl:<digest of caller and URL>, host:<digest of caller and host> where no connection came about; of release 0.2.0 a return URL's host | until it takes one; of return URLs also until a callback is given up |
| smsq:timers      | zset   | every live message's id, by the time at which something must happen if nothing else does | until final or held |
| smsq:timers:leases, smsq:timers:otp, smsq:timers:notice | zset | those of them that must not wait behind others: leases of attempts, and when otps and notices are to go again | as in smsq:timers |
| smsq:held        | zset   | ids of held messages, by the time since when | until an operator decides |
| smsq:lanes       | hash   | of releases before 0.3.0: lane -> publication time of the newest message admitted | for ever |
| smsq:counters    | hash   | "messages:<lane>:<state>", "possible_duplicates", ... -> count | for ever |
| smsq:durations   | hash   | "<duration>:<lane>:<le>" -> how many took at most le ms and more than the bound below it, or "inf"; "<duration>:<lane>:sum" -> ms: "accept" and "delivery", see ledger/histograms.py. Also the counters that are newer than release 0.1.0, whose API fails on a name in smsq:counters that it does not know: "doubts_resolved:<outcome>", "mids_reused", "reports_refused:<why>", "test_messages:<lane>:<state>", "verifications:<template>:<result>" | for ever |
| smsq:day:<n>     | hash   | the messages entered on a day, counted from 1970 in Asia/Shanghai, by lane, what became of them, and template, see ledger/lua/shared/days.lua; at most 1,000 templates and 20,000 fields, the rest as "other" | 40 d |
| smsq:live        | hash   | "<lane>:<state>" -> how many live messages are in it now | for ever |
| smsq:rate        | hash   | limit, burst: set by an operator; workers_limit, workers_burst: what the workers' settings say; other_limit, other_burst, differs, differed: what those of other workers last said that differed, and when that was last so and the time before; tat: the next free slot, since: when slots were booked again after a time without, newest: the last send time, in us; slow, slow_at: what the gateway allows; unanswered: attempts since the last answer | for ever |
| smsq:clock       | hash   | what follows from the server's clock having been set back, see ledger/lua/shared/clock_step.lua | for ever |
| smsq:calls       | zset   | "<attempt> <id>" of the last attempts admitted, by their send time in us | a second's worth |
| smsq:pauses      | hash   | "account", "breaker", "template:<name>" -> a pause as JSON, see ledger/lua/shared/pauses.lua | until resumed |
| smsq:accounts    | set    | keys of accounts at gateways that messages were sent through, but for the first, whose keys have no "@", see below | for ever |
| smsq:live@<account> | hash | state -> how many live messages are in it now whose last attempt was there: sending, accepted | for ever |
| smsq:weights     | hash   | "<route> <account>" -> what an account has to its credit where a route chooses by weight; where that prefers delivery "share:<route> <account>" -> "<steps> <weight>", by how many its weight in the file was moved, and share:hour, when that was last decided, in hours from 1970 | for ever |
| smsq:quality:<hour> | hash | where there are several accounts: what became of what each accepted in an hour, counted from 1970, see ledger/lua/shared/quality.lua; at most 5,000 fields, the rest as template "other" | 48 h |
| smsq:told        | list   | what operators paused and resumed, and what was set aside, to be logged by a worker | until logged |
| smsq:resumed     | hash   | scope -> when it was last resumed | for ever |
| smsq:health      | hash   | refusals in a row | for ever |
| smsq:outcomes    | list   | the last attempts since one that failed, the newest first: when it failed, 0 where it did not | the breaker's time after the last that failed |
| smsq:reports:<template> | hash | the template's windows of reports, "<lane>:<field>"; of releases before 0.3.0 "<field>", of all lanes | the longest of SMSQ_TEMPLATE_PAUSE |
| smsq:waiting:<template> | zset | ids deferred because their template is paused | until resumed |
| smsq:released    | set    | templates whose waiting messages go on | until they have |
| smsq:audit       | stream | what operators did: who, what, arguments, effect, see audit.lua | a year, the last 100,000 |
| smsq:stops       | hash   | "account:<name>" -> why its messages must not be sent: "cancelled" ends them, anything else makes them wait; obeyed since version 3, set by no release yet. "campaign:<name>" -> "1" where its record has a stop or a rate, as nobody looks there else before a message is sent | until it is lifted; of a campaign until that is forgotten |
| smsq:campaign:<name> | hash | a campaign, fields below | SMSQ_RETENTION_S after its last message's end |
| smsq:campaigns   | zset   | the names of campaigns, at most 10,000, by when the scheduler is to report the end of each, or to forget it; inf while one has live messages | as its campaign |
| smsq:campaigns:callers | hash | how many campaigns each of the relay's callers has begun, at most 1,000; "of <name>": whose one is; "" is the holder of SMSQ_RELAY_SECRET | as they |
| smsq:campaigns:waiting:<name> | zset | ids deferred because their campaign is paused, or slower, by when they were entered | until they go on |
| smsq:campaigns:rooms | set | campaigns of which messages wait there | until none does |
| smsq:campaigns:sweep | hash | how far the scheduler has come in ending the messages of cancelled campaigns, see ledger/lua/shared/campaigns_tick.lua; "name:<name>": these | until it is through |
| smsq:suppressed  | hash   | phone hash -> {phone, reason, since, until} as JSON, phone encrypted as in the payload; also `lanes` where it holds not for all lanes alike, see ledger/lua/shared/suppression.lua | until then |
| smsq:codes:seen  | hash   | stat code that the catalogue does not know -> {count, first, last, mid of the last} as JSON, of messages' own reports, at most 200 | 90 d after the last |
| smsq:relay:<caller> | string | when the requests of a relay's caller that passed would be done at its rate, in us | a second's worth of requests |
| smsq:hold:<phone hash>  | string | until when the gateway takes nothing for a number; of an account's own blacklist, where there are several, behind that the lanes | until then |
| smsq:bad         | zset   | what no act can process, "<what>:<name>", by when it last failed, at most 10,000, see ledger/lua/shared/set_aside.lua | 10 min after it last failed |
| smsq:bad:counts  | hash   | what -> how many were set aside | for ever |
| smsq:sent:<phone hash>  | list   | times of a number's last otp messages | the longest of SMSQ_PHONE_LIMITS |
| smsq:v:c:<challenge> | hash | a verification: digest of its code, expires, used: when; of "known" and "unknown" devices <pool>:handle, :tries, and :call with its :answer, see verify/shared.lua | 10 min after its end |
| smsq:v:now:<phone hash>:<purpose> | string | the challenge that another start returns | 60 s |
| smsq:v:wrong:<pool>:<phone hash> | list | times of a number's last 15 wrong codes | 1 h |

Fields of smsq:m:<id>. Times are Unix milliseconds of the Redis server's clock.

| field | holds |
| --- | --- |
| state, lane, template, reference, notify | as in the contract |
| phone | masked |
| caller, returnurl | who sent it through the relay, and its callback URL |
| allowed | where it was too frequent: from when it would be allowed |
| reason, stat | why it is where it is; the last stat code reported |
| raw | that code as the gateway wrote it, where `stat` is another spelling |
| enqueued, accepted, finished | times |
| n | number of the last attempt, its fencing number; absent before the first |
| <n>:at, <n>:outcome, <n>:detail, <n>:mid, <n>:stat | an attempt |
| <n>:denied | "1" where a report said that it did not arrive, and the message went on for that |
| <n>:account | the key of the account that made it; absent: the only one, or the first |
| refused | why an account refused it first, and all that did: "<reason> @<key> ..." |
| unsent | the accounts at which it certainly did not arrive since it last waited for a backoff: " @<key> ..." |
| test | where its last attempt was at a test number: the stat that is reported of it |
| who | phone hash, by which limits and suppression find it; dropped when final |
| expires | ttl's end; dropped when final, like all below |
| trace | where it is traced: the W3C traceparent of the span in which it was sent |
| stop | "cancelled" where it was cancelled while an attempt was under way, or accepted: it is not sent again; obeyed since version 3 |
| campaign | the name of its campaign |
| account | which of smsq:stops applies; without one it is "default" |
| via | of a probe: "@" and the key of the only account that it may go through |
| turn | "1" where it has its slot of a campaign with its own rate; "2" once it was counted as going |
| key | its idempotency key, what follows smsq:k: |
| hold | "1" where on_ambiguous is hold |
| resends | resends used up after doubt or a transient report |
| due | where it was sent with a send_at: when it could first go; dropped when it is accepted |
| waits | where it is deferred: for how many ms, which an older release does not note |
| doubt | "1" while the last attempt may have been sent: the next is a possible duplicate |
| otherwise | fallback reason, to fail with if no further attempt can be made; absent: it expires |
| published | when its wake-up was last published; 0: the publication failed |
| by | which call admitted its last attempt, so that the same call, sent again, is answered again |
| overtaken | "1" where its wake-up was seen to have left its queue, and no worker reported having it |
| 0:outcome | "maybe_sent" where a failover undid attempts of which nothing else is known |
| doubted | "1" while an attempt may have sent it of which nothing is known: smsq:day:<n> counts it so |
| row | of one from a file: the line of its row |
| redo_of | the id of the message that it sends again |
| redone_by | once it has ended: the id of the message that sends it again, see redo.lua |
| freed | "1" where another may have been sent in its place: it ended as certainly not sent and gave its idempotency key back, or was redone |
| fold, <n> | the other fields once it is final, in half the memory: see ledger/lua/shared/compaction.lua, smsq/compaction.py |

Where there are several accounts, each has its own smsq:rate, smsq:calls, smsq:health, smsq:outcomes,
smsq:codes:seen and smsq:hold:<phone hash>: with "@<key>" behind, and smsq:reports@<key>:<template>, except of
the account whose key is "". So have the scopes in smsq:pauses and smsq:resumed: "account@<key>",
"breaker@<key>", "template@<key>:<name>". In smsq:mid:*, smsq:early:*, smsq:parked and smsq:inbox its mids
are "<mid> <key>". Release 0.2.0 knows none of this: see ledger/accounts.py.

Fields of smsq:campaign:<name>. A message is counted in the act that changes its state.

| field | holds |
| --- | --- |
| at, by | when its first message was entered, and its origin: a relay's caller, or user@host |
| lane, template | of its messages; "*" where they differ |
| <lane>:<state>><state> | how many of its messages went from one state to another in an act, "" being the one before they were entered; so in a state are those that came there but for those that left it. The way from accepted to delivered has no field: so many ended but for those that ended in another way |
| <lane>:goal, <lane>:left | goal - left of its messages have ended; where left is above 0 at least so many are live |
| doubted:<lane> | how many of those that wait may have been sent: a cancel ends them as failed |
| reason:<reason> | how many have failed for it; "reason:other" beyond 240 fields, at least 50 reasons |
| stop, stopped | "paused" or "cancelled", and since when |
| rate, slot, pace | its own attempts a second, its next free slot in us, and when the last that went would be done at that rate, where an operator set it |
| ended, told | since when none of its messages is live; "1" once that was told |

Scripts derive message keys from ids they read, so the database cannot be a Redis Cluster
(nor can kombu's broker).
"""  # noqa: E501

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from typing import Final

VERSION: Final = 3
"""The version of this table."""
PREFIX: Final = "smsq:"

SCHEMA: Final = f"{PREFIX}schema"
TIMERS: Final = f"{PREFIX}timers"
LEASES: Final = f"{TIMERS}:leases"
OTP_TIMERS: Final = f"{TIMERS}:otp"
NOTICE_TIMERS: Final = f"{TIMERS}:notice"
INBOX: Final = f"{PREFIX}inbox"
PARKED: Final = f"{PREFIX}parked"
NOTICES: Final = f"{PREFIX}notices"
DEAD_NOTICES: Final = f"{PREFIX}notices:dead"
RECEIVERS: Final = f"{PREFIX}receivers"
HELD: Final = f"{PREFIX}held"
IDS: Final = f"{PREFIX}ids"
LANES: Final = f"{PREFIX}lanes"
COUNTERS: Final = f"{PREFIX}counters"
DURATIONS: Final = f"{PREFIX}durations"
LIVE: Final = f"{PREFIX}live"
ACCOUNTS: Final = f"{PREFIX}accounts"
WEIGHTS: Final = f"{PREFIX}weights"
RATE: Final = f"{PREFIX}rate"
CLOCK: Final = f"{PREFIX}clock"
CALLS: Final = f"{PREFIX}calls"
PAUSES: Final = f"{PREFIX}pauses"
RESUMED: Final = f"{PREFIX}resumed"
RELEASED: Final = f"{PREFIX}released"
TOLD: Final = f"{PREFIX}told"
HEALTH: Final = f"{PREFIX}health"
RECENT_ATTEMPTS: Final = f"{PREFIX}outcomes"
SUPPRESSED: Final = f"{PREFIX}suppressed"
STOPS: Final = f"{PREFIX}stops"
CAMPAIGNS: Final = f"{PREFIX}campaigns"
CAMPAIGN_CALLERS: Final = f"{CAMPAIGNS}:callers"
CAMPAIGN_ROOMS: Final = f"{CAMPAIGNS}:rooms"
CAMPAIGN_SWEEP: Final = f"{CAMPAIGNS}:sweep"
AUDIT: Final = f"{PREFIX}audit"
CODES_SEEN: Final = f"{PREFIX}codes:seen"
LOOKUP: Final = f"{PREFIX}lookup"
BAD: Final = f"{PREFIX}bad"
BAD_COUNTS: Final = f"{PREFIX}bad:counts"

# What these begin is completed by an id, a mid, a template, a campaign, a phone hash, or a caller.
MESSAGE: Final = f"{PREFIX}m:"
PAYLOAD: Final = f"{PREFIX}p:"
IDS_OF: Final = f"{IDS}:"
CALLBACK: Final = f"{PREFIX}o:"
IDEMPOTENCY: Final = f"{PREFIX}k:"
MID: Final = f"{PREFIX}mid:"
EARLY: Final = f"{PREFIX}early:"
WAITING: Final = f"{PREFIX}waiting:"
REPORTS: Final = f"{PREFIX}reports"
CAMPAIGN: Final = f"{PREFIX}campaign:"
CAMPAIGN_ROOM: Final = f"{CAMPAIGNS}:waiting:"
DAY: Final = f"{PREFIX}day:"
QUALITY: Final = f"{PREFIX}quality:"
PHONE_HOLD: Final = f"{PREFIX}hold:"
SENT: Final = f"{PREFIX}sent:"
RELAY: Final = f"{PREFIX}relay:"
CHALLENGE: Final = f"{PREFIX}v:c:"
CHALLENGED: Final = f"{PREFIX}v:now:"
WRONG: Final = f"{PREFIX}v:wrong:"


def fill_in(script: str) -> str:
    """Return a Lua script with the name of a key in place of each `KEY_TIMERS`, `KEY_MESSAGE`, ...

    Not as locals before it: Lua looks for each that a function uses when it makes the function,
    which is in each act.
    """
    return re.sub(r"\bKEY_([A-Z_]+)", lambda found: f"'{globals()[found[1]]}'", script)


def at_account(key: str, account: str) -> str:
    """Return a key as an account has it, by the account's own key."""
    return f"{key}@{account}" if account else key


def _begun_by(prefix: str) -> Callable[[str | int], str]:
    return lambda rest: f"{prefix}{rest}"


message: Final = _begun_by(MESSAGE)
payload: Final = _begun_by(PAYLOAD)
mid: Final = _begun_by(MID)
early: Final = _begun_by(EARLY)
campaign: Final = _begun_by(CAMPAIGN)
ids_of: Final = _begun_by(IDS_OF)
quality: Final = _begun_by(QUALITY)
day: Final = _begun_by(DAY)
"""Of hours and days as counted from 1970; these are of Asia/Shanghai."""


def callback(state: str, message_id: str) -> str:
    """Return the key of the callbacks of a message that came to a final state."""
    return f"{CALLBACK}{state}:{message_id}"


def fingerprint(key: str, phone: str, template: str, lookup: bytes = b"") -> str:
    """Digest what an idempotency key stands for.

    The key itself is part of it, and the ledger has only its digest: so only those who know or
    guess the key can try numbers against this.
    """
    text = json.dumps([key, phone, template])
    return hashlib.blake2b(text.encode(), digest_size=8, key=lookup).hexdigest()


def phone_hash(phone: str, lookup: bytes = b"") -> str:
    """Digest a number, with the lookup key where there is one: see `smsq.cipher`."""
    return hashlib.blake2b(phone.encode(), digest_size=16, key=lookup).hexdigest()
