"""The table: which last four digits of a number bring about which outcome.

The server acts on it, `smsq sandbox --outcomes` prints it, the tests go through it row by row.
Only the digits listed are special: a number ending in anything else is delivered.
"""

from __future__ import annotations

from smsq_worker.sandbox.turns import Answer, Manner, Outcome, Push, Shape, Style, Turn

ANY_OTHER = "any other"

_WELL = Turn()


def _always(digits: str, name: str, words: str, turn: Turn) -> Outcome:
    return Outcome(digits, name, words, first=turn, later=turn)


def _once(digits: str, name: str, words: str, turn: Turn) -> Outcome:
    return Outcome(digits, name, words, first=turn, later=_WELL)


def _reported(digits: str, stat: str, words: str) -> Outcome:
    name = stat.lower().replace(":", "-")
    return _always(digits, name, f"report {stat}: {words}", Turn(pushes=(Push(stat),)))


def _not_accepted(answer: Answer) -> Turn:
    return Turn(answer, accepts=False, pushes=())


def _page(status: int, retry_after_s: int | None = None) -> Answer:
    return Answer(status=status, retry_after_s=retry_after_s, shape=Shape.PAGE)


DELIVERED = _always(ANY_OTHER, "delivered", "accepted, report DELIVRD", _WELL)

_MA_WORDS = {
    "01": "global blacklist",
    "02": "illegal content",
    "03": "no route found",
    "04": "wrong content length",
    "05": "bad destination number",
    "06": "refused by the system",
    "09": "undefined error",
    "11": "unknown internal error",
    "15": "no balance",
    "17": "signature invalid",
    "21": "bad number format",
    "22": "sent too often to this number",
    "23": "the customer's own blacklist",
    "24": "content not filed",
    "25": "message not supported",
    "26": "parts missing when joined",
    "27": "channel blacklist",
    "28": "number range on the global blacklist",
    "29": "number range on the channel blacklist",
    "30": "refused outright",
    "33": "region blocked",
    "44": "number range blocked",
}
_MA = tuple(_reported(f"10{n}", f"MA:00{n}", words) for n, words in _MA_WORDS.items())

_MO = (
    _reported("2008", "MO:0008", "upstream's flow control"),
    _reported("2200", "MO:200", "messages in parts are not supported"),
    _reported("2254", "MO:0254", "submitting upstream timed out"),
    _reported("2255", "MO:0255", "connection lost while submitting upstream"),
    _reported("2999", "MO:9999", "an upstream code that nobody has explained"),
)

_STATES = (
    _reported("3000", "EXPIRED", "validity period over"),
    _reported("3001", "DELETED", "message deleted"),
    _reported("3002", "REJECTED", "message rejected"),
    _reported("3003", "REJECTD", "message rejected, the short spelling"),
    _reported("3004", "UNDELIV", "undeliverable"),
    _reported("3005", "ACCEPTD", "taken upstream; nothing follows"),
    _reported("3006", "UNKNOWN", "no final state"),
)

_REFUSALS = (
    _always(
        "4400",
        "refused-400",
        "refused: JSON code 400 on every call",
        _not_accepted(Answer(code=400, msg="校验失败")),
    ),
    _always(
        "4403",
        "refused-403",
        "refused: JSON code 403, which is not documented, on every call",
        _not_accepted(Answer(code=403, msg="账户已停用")),
    ),
    _once(
        "4429",
        "http-429-once",
        "first call HTTP 429 with Retry-After: 1, not accepted; then delivered",
        _not_accepted(_page(429, retry_after_s=1)),
    ),
    _always(
        "4500", "http-500", "HTTP 500 on every call, never accepted", _not_accepted(_page(500))
    ),
    _once(
        "4501",
        "http-500-once",
        "first call HTTP 500, not accepted; then delivered",
        _not_accepted(_page(500)),
    ),
    _always(
        "4502", "http-502", "HTTP 502 on every call, never accepted", _not_accepted(_page(502))
    ),
    _once(
        "4503",
        "http-503-once",
        "first call HTTP 503 with Retry-After: 1, not accepted; then delivered",
        _not_accepted(_page(503, retry_after_s=1)),
    ),
    _always(
        "4504",
        "http-504",
        "accepted and reported, yet answered HTTP 504, on every call",
        Turn(_page(504)),
    ),
)

_ANSWERS = (
    _always(
        "6000",
        "slow",
        "accepted, answered after the slow delay",
        Turn(Answer(manner=Manner.SLOW)),
    ),
    _always(
        "6001",
        "timeout",
        "accepted and reported, never answered",
        Turn(Answer(manner=Manner.SILENT)),
    ),
    _always(
        "6002",
        "reset-after",
        "accepted and reported, then the connection is reset",
        Turn(Answer(manner=Manner.RESET)),
    ),
    _always(
        "6003",
        "reset-before",
        "the connection is reset, not accepted",
        _not_accepted(Answer(manner=Manner.RESET)),
    ),
    _always("6004", "garbage", "accepted and reported, answered with HTML", Turn(_page(200))),
    _always(
        "6005",
        "no-mid",
        "accepted and reported, answered without a mid",
        Turn(Answer(shape=Shape.WITHOUT_MID)),
    ),
    _always(
        "6006",
        "truncated",
        "accepted and reported, answered with half of the JSON",
        Turn(Answer(shape=Shape.TRUNCATED)),
    ),
    _always(
        "6007",
        "empty",
        "accepted and reported, answered with an empty body",
        Turn(Answer(shape=Shape.EMPTY)),
    ),
    _always(
        "6008",
        "dribble",
        "accepted, answered byte by byte, an eighth of the slow delay between two",
        Turn(Answer(manner=Manner.DRIBBLE)),
    ),
    _always(
        "6009",
        "cut",
        "accepted and reported, the connection closes in the middle of the answer",
        Turn(Answer(manner=Manner.CUT)),
    ),
    _always(
        "6010",
        "code-as-text",
        'accepted, answered with "code":"200" as a text',
        Turn(Answer(shape=Shape.CODE_AS_TEXT)),
    ),
    _always(
        "6011",
        "padded",
        "accepted, answered as text/html with a BOM and blanks around the JSON",
        Turn(Answer(shape=Shape.PADDED)),
    ),
    _always(
        "6012",
        "http-500-after",
        "accepted and reported, yet answered HTTP 500",
        Turn(_page(500)),
    ),
)

# Those after which a client cannot know what happened, so that it may send again.
_DOUBTFUL = {"6001", "6002", "6003", "6004", "6006", "6007", "6009", "6012"}
_ANSWERS_ONCE = tuple(
    _once(
        f"61{row.digits[2:]}",
        f"{row.name}-once",
        f"first call as {row.digits} ({row.name}); then delivered",
        row.first,
    )
    for row in _ANSWERS
    if row.digits in _DOUBTFUL
)

_REPORTS = (
    _always(
        "7000",
        "early",
        "report DELIVRD is POSTed, and taken by the receiver, before the send is answered",
        Turn(pushes=(Push(after=0),), report_first=True),
    ),
    _always("7001", "doubled", "report DELIVRD twice", Turn(pushes=(Push(), Push()))),
    _always("7002", "never", "accepted, no report", Turn(pushes=())),
    _always("7003", "late", "report DELIVRD after 10 x the delay", Turn(pushes=(Push(after=10),))),
    _always(
        "7004",
        "reordered",
        "report DELIVRD, and ACCEPTD after it",
        Turn(pushes=(Push(), Push("ACCEPTD", after=2))),
    ),
    _always(
        "7005",
        "delivered-then-failed",
        "report DELIVRD, and MA:0009 after it",
        Turn(pushes=(Push(), Push("MA:0009", after=2))),
    ),
    _always(
        "7006",
        "failed-then-delivered",
        "report MA:0009, and DELIVRD after it",
        Turn(pushes=(Push("MA:0009"), Push(after=2))),
    ),
    _once(
        "7007",
        "second-time-lucky",
        "report MO:0254 for the first send; DELIVRD for later ones",
        Turn(pushes=(Push("MO:0254"),)),
    ),
    _always(
        "7008",
        "batched",
        "report DELIVRD in an array together with one for a mid never given out",
        Turn(pushes=(Push(style=Style.BATCH),)),
    ),
    _always("7009", "form", "report DELIVRD as a form", Turn(pushes=(Push(style=Style.FORM),))),
    _always(
        "7010",
        "text-with-bom",
        "report DELIVRD as text/plain with a BOM before the JSON",
        Turn(pushes=(Push(style=Style.TEXT_WITH_BOM),)),
    ),
    _always(
        "7011",
        "stranger",
        "report DELIVRD for a mid never given out, and after it the message's own",
        Turn(pushes=(Push(own_mid=False), Push(after=2))),
    ),
    _always(
        "7012",
        "extra-zero",
        "report MA:00011, a documented code with one zero too many",
        Turn(pushes=(Push("MA:00011"),)),
    ),
)

OUTCOMES: tuple[Outcome, ...] = (
    DELIVERED,
    *_MA,
    *_MO,
    *_STATES,
    *_REFUSALS,
    *_ANSWERS,
    *_ANSWERS_ONCE,
    *_REPORTS,
)

_BY_DIGITS = {row.digits: row for row in OUTCOMES}


def outcome_for(phone: str) -> Outcome:
    """Return the row that the last four digits of `phone` choose."""
    return _BY_DIGITS.get(phone[-4:], DELIVERED)
