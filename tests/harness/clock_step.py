"""A server's clock that steps: everything stored is rewritten as it looks from the other side."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final

import redis

from smsq import keys

_DAYS: Final = 4000
_DAY_MS: Final = 86_400_000
# 13 digits are ms, 16 are us; what is no moment of about now is left alone.
_NUMBER: Final = re.compile(r"(?<![\w.-])(\d{16}|\d{13})(?:\.0)?(?![\w])")
_NAMED: Final = re.compile(
    r"^smsq:(m|o|p|k|mid|early|hold|sent|relay|reports|v|waiting|day|campaign|campaigns:waiting):.*"
)

_OF_FIELDS: Final = {"smsq:rate", "smsq:schema", "smsq:clock"}


def step(client: redis.Redis, seconds: float) -> None:
    """Let the server's clock jump: all that is stored, and when keys expire, is shifted against it.

    Looked at from the server, that is the same.
    """
    for _ in _each_moment(client, lambda moment: moment - round(seconds * 1000)):
        pass
    for key in client.scan_iter("smsq:*"):
        left: Any = client.pttl(key)
        if left > 0:
            client.pexpire(key, left - round(seconds * 1000))


def moments(client: redis.Redis) -> set[str]:
    """Name every place of the ledger in which a moment is stored."""
    return set(_each_moment(client, lambda moment: moment))


def _each_moment(client: redis.Redis, change: Callable[[int], int]) -> Iterator[str]:
    """Rewrite every moment, and name its place."""
    now = _now(client)
    for key in list(client.scan_iter("smsq:*")):
        if key.startswith(keys.IDS_OF):
            continue  # It has no moments, and is no text.
        name = _NAMED.sub(r"smsq:\1:*", key)
        for field, text, write in _stored(client, key):
            shifted = _shifted(text, now, change)
            if shifted is not None:
                write(shifted)
                yield _place(name, field)


def _stored(client: Any, key: str) -> Iterator[tuple[str, str, Callable[[str], object]]]:
    """Give each piece of a key: its field, its text, and what writes it."""
    kind = client.type(key)
    if kind == "zset":
        for member, score in client.zrange(key, 0, -1, withscores=True):
            yield "", f"{score:.0f}", lambda text, member=member: client.zadd(key, {member: text})
    elif kind == "hash":
        for field, text in client.hgetall(key).items():
            yield field, text, partial(client.hset, key, field)
    elif kind == "list":
        for index, text in enumerate(client.lrange(key, 0, -1)):
            yield "", text, partial(client.lset, key, index)
    elif kind == "string":
        # It may have ended meanwhile.
        yield "", client.get(key) or "", partial(client.set, key, keepttl=True)


def _shifted(text: str, now: int, change: Callable[[int], int]) -> str | None:
    """Change the moments in a text; None where it has none."""
    count = 0

    def replace(match: re.Match[str]) -> str:
        nonlocal count
        digits = match[1]
        micros = int(digits[13:] or 0)
        if abs(int(digits[:13]) - now) > _DAYS * _DAY_MS:
            return match[0]
        count += 1
        moment = change(int(digits[:13]))
        return f"{moment}{micros:03d}" if len(digits) == 16 else str(moment)

    replaced = _NUMBER.sub(replace, text)
    return replaced if count else None


def _place(name: str, field: str) -> str:
    """Name a hash' field, without what differs from ledger to ledger."""
    if name == "smsq:m:*":
        return f"{name} {re.sub('^[0-9]+:', '<n>:', field)}"
    if name == "smsq:o:*":
        return f"{name} {re.sub('^[a-z]+:', '<kind>:', field)}"
    if name == "smsq:reports:*":
        return f"{name} {re.sub('^[a-z]+:', '<lane>:', field)}"
    return f"{name} {field}" if name in _OF_FIELDS else name


def _now(client: redis.Redis) -> int:
    seconds, micros = client.time()
    return int(seconds) * 1000 + int(micros) // 1000
