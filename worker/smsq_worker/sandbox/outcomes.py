"""The table: which last four digits of a number bring about which outcome.

The server acts on it, `smsq sandbox --outcomes` prints it, the tests go through it row by row.
Only the digits listed are special: a number ending in anything else is delivered.
"""

from __future__ import annotations

from collections.abc import Iterator

from smsq_worker.i18n import N_
from smsq_worker.sandbox.behaviour import Behaviour, Outcome, Push

ANY_OTHER = N_("any other")

# Accepted, and reported with this stat.
_REPORTED = {
    "1001": ("MA:0001", N_("global blacklist")),
    "1002": ("MA:0002", N_("illegal content")),
    "1003": ("MA:0003", N_("no route found")),
    "1004": ("MA:0004", N_("wrong content length")),
    "1005": ("MA:0005", N_("bad destination number")),
    "1006": ("MA:0006", N_("refused by the system")),
    "1009": ("MA:0009", N_("undefined error")),
    "1011": ("MA:0011", N_("unknown internal error")),
    "1015": ("MA:0015", N_("no balance")),
    "1017": ("MA:0017", N_("signature invalid")),
    "1021": ("MA:0021", N_("bad number format")),
    "1022": ("MA:0022", N_("sent too often to this number")),
    "1023": ("MA:0023", N_("the customer's own blacklist")),
    "1024": ("MA:0024", N_("content not filed")),
    "1025": ("MA:0025", N_("message not supported")),
    "1026": ("MA:0026", N_("parts missing when joined")),
    "1027": ("MA:0027", N_("channel blacklist")),
    "1028": ("MA:0028", N_("number range on the global blacklist")),
    "1029": ("MA:0029", N_("number range on the channel blacklist")),
    "1030": ("MA:0030", N_("refused outright")),
    "1033": ("MA:0033", N_("region blocked")),
    "1044": ("MA:0044", N_("number range blocked")),
    "2008": ("MO:0008", N_("upstream flow control")),
    "2200": ("MO:200", N_("messages in parts are not supported")),
    "2254": ("MO:0254", N_("submitting upstream timed out")),
    "2255": ("MO:0255", N_("connection lost while submitting upstream")),
    "2999": ("MO:9999", N_("an undocumented upstream code")),
    "3000": ("EXPIRED", N_("validity period over")),
    "3001": ("DELETED", N_("message deleted")),
    "3002": ("REJECTED", N_("message rejected")),
    "3003": ("REJECTD", N_("message rejected, the short spelling")),
    "3004": ("UNDELIV", N_("undeliverable")),
    "3005": ("ACCEPTD", N_("taken upstream; nothing follows")),
    "3006": ("UNKNOWN", N_("no final state")),
}


# The others: their name, and in words what the behaviour of the same digits below does.
_WORDS = {
    ANY_OTHER: ("delivered", N_("accepted, report DELIVRD")),
    "4400": ("refused-400", N_("refused: JSON code 400 on every request")),
    "4403": (
        "refused-403",
        N_("refused: JSON code 403, which is not documented, on every request"),
    ),
    "4429": ("http-429-once", N_("first request HTTP 429 with Retry-After: 1, not accepted")),
    "4500": ("http-500", N_("HTTP 500 on every request, never accepted")),
    "4501": ("http-500-once", N_("first request HTTP 500, not accepted")),
    "4502": ("http-502", N_("HTTP 502 on every request, never accepted")),
    "4503": ("http-503-once", N_("first request HTTP 503 with Retry-After: 1, not accepted")),
    "4504": ("http-504", N_("accepted and reported, yet HTTP 504, on every request")),
    "6000": ("slow", N_("accepted, response after the slow delay")),
    "6001": ("timeout", N_("accepted and reported, no response")),
    "6002": ("reset-after", N_("accepted and reported, then the connection is reset")),
    "6003": ("reset-before", N_("the connection is reset, not accepted")),
    "6004": ("garbage", N_("accepted and reported, response is HTML")),
    "6005": ("no-mid", N_("accepted and reported, response without a mid")),
    "6006": ("truncated", N_("accepted and reported, response is half of the JSON")),
    "6007": ("empty", N_("accepted and reported, response with an empty body")),
    "6008": ("dribble", N_("accepted, response byte by byte, an eighth of the slow delay apart")),
    "6009": ("cut", N_("accepted and reported, connection closed in the middle of the response")),
    "6010": ("code-as-text", N_('accepted, response with "code":"200" as a string')),
    "6011": ("padded", N_("accepted, response as text/html with a BOM and blanks around the JSON")),
    "6012": ("http-500-after", N_("accepted and reported, yet HTTP 500")),
    "7000": (
        "early",
        N_("report DELIVRD is POSTed, and taken by the receiver, before the response"),
    ),
    "7001": ("doubled", N_("report DELIVRD twice")),
    "7002": ("never", N_("accepted, no report")),
    "7003": ("late", N_("report DELIVRD after 10 x the delay")),
    "7004": ("reordered", N_("report DELIVRD, followed by ACCEPTD")),
    "7005": ("delivered-then-failed", N_("report DELIVRD, followed by MA:0009")),
    "7006": ("failed-then-delivered", N_("report MA:0009, followed by DELIVRD")),
    "7007": ("second-time-lucky", N_("first request: report MO:0254")),
    "7008": ("batched", N_("report DELIVRD in an array, with one for a mid never given out")),
    "7009": ("form", N_("report DELIVRD as a form")),
    "7010": ("text-with-bom", N_("report DELIVRD as text/plain with a BOM before the JSON")),
    "7011": ("stranger", N_("report DELIVRD for a mid never given out, then the message's own")),
    "7012": ("extra-zero", N_("report MA:00011, a documented code with one zero too many")),
}


def _page(status: int, *, accepts: bool = False, retry_after_s: int | None = None) -> Behaviour:
    return Behaviour(accepts, status=status, retry_after_s=retry_after_s, body="page")


def _reports(*pushes: Push) -> Behaviour:
    return Behaviour(pushes=pushes)


_BEHAVIOURS = {
    ANY_OTHER: Behaviour(),
    "4400": Behaviour(accepts=False, code=400, msg="校验失败"),
    "4403": Behaviour(accepts=False, code=403, msg="账户已停用"),
    "4429": _page(429, retry_after_s=1),
    "4500": _page(500),
    "4501": _page(500),
    "4502": _page(502),
    "4503": _page(503, retry_after_s=1),
    "4504": _page(504, accepts=True),
    "6000": Behaviour(transfer="slow"),
    "6001": Behaviour(transfer="silent"),
    "6002": Behaviour(transfer="reset"),
    "6003": Behaviour(accepts=False, transfer="reset"),
    "6004": _page(200, accepts=True),
    "6005": Behaviour(body="no mid"),
    "6006": Behaviour(body="truncated"),
    "6007": Behaviour(body="empty"),
    "6008": Behaviour(transfer="dribble"),
    "6009": Behaviour(transfer="cut"),
    "6010": Behaviour(body="code as text"),
    "6011": Behaviour(body="padded"),
    "6012": _page(500, accepts=True),
    "7000": Behaviour(pushes=(Push(after=0),), report_first=True),
    "7001": _reports(Push(), Push()),
    "7002": _reports(),
    "7003": _reports(Push(after=10)),
    "7004": _reports(Push(), Push("ACCEPTD", after=2)),
    "7005": _reports(Push(), Push("MA:0009", after=2)),
    "7006": _reports(Push("MA:0009"), Push(after=2)),
    "7007": _reports(Push("MO:0254")),
    "7008": _reports(Push(format="batch")),
    "7009": _reports(Push(format="form")),
    "7010": _reports(Push(format="text with bom")),
    "7011": _reports(Push(own_mid=False), Push(after=2)),
    "7012": _reports(Push("MA:00011")),
}

_ONCE = {"4429", "4501", "4503", "7007"}
"""Only the first request of a number behaves so; later ones are delivered."""
_DOUBTFUL = {"6001", "6002", "6003", "6004", "6006", "6007", "6009", "6012"}
"""Their client cannot know what happened and may send again: each has a 61xx that does it once."""


def _rows() -> Iterator[Outcome]:
    delivered = _BEHAVIOURS[ANY_OTHER]
    for digits, (name, words) in _WORDS.items():
        first = _BEHAVIOURS[digits]
        if digits in _ONCE:
            yield Outcome(digits, name, f"{words}; then delivered", first=first, later=delivered)
        else:
            yield Outcome(digits, name, words, first=first, later=first)
        if digits in _DOUBTFUL:
            as_that = f"first request as {digits} ({name}); then delivered"
            once = f"61{digits[2:]}"
            yield Outcome(once, f"{name}-once", as_that, first=first, later=delivered)
    for digits, (stat, words) in _REPORTED.items():
        every = _reports(Push(stat))
        name = stat.lower().replace(":", "-")
        yield Outcome(digits, name, f"report {stat}: {words}", first=every, later=every)


_BY_DIGITS = {row.digits: row for row in _rows()}
# The row of any other digits comes first.
OUTCOMES = tuple(sorted(_BY_DIGITS.values(), key=lambda row: (row.digits.isdigit(), row.digits)))


def outcome_for(phone: str) -> Outcome:
    """Return the row that the last four digits of `phone` choose."""
    return _BY_DIGITS.get(phone[-4:], _BY_DIGITS[ANY_OTHER])
