"""Run a check on a Redis server, and report in plain words why the server does not answer."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Final

import redis

from smsq.connection import Client, connect_impatiently
from smsq.deadline import DeadlineExceeded
from smsq.errors import LedgerUnavailable
from smsq.settings import shown_url
from smsq_worker.doctor.finding import Finding, error, ok, one_line, warning
from smsq_worker.i18n import _

TIMEOUT_S: Final = 3.0
_TIMEOUTS: Final = (redis.TimeoutError, DeadlineExceeded)
_UNREACHABLE: Final = (redis.ConnectionError, *_TIMEOUTS)


def on_redis(
    url: str, setting: str, check: Callable[[Client], Iterator[Finding]], *, follows: bool = False
) -> Iterator[Finding]:
    """Run a check on a server; if the server does not answer, that is the finding.

    `setting` names the server's URL. With `follows` another part reports that the server is
    unreachable, so here that is only the reason why nothing is known.
    """
    try:
        with closing(connect_impatiently(url, TIMEOUT_S)) as client:
            if not follows:
                client.time()
                yield ok(_("{url} answers", url=shown_url(url)))
            yield from check(client)
    except (redis.RedisError, LedgerUnavailable) as problem:
        if not isinstance(problem, redis.RedisError):
            if not isinstance(problem.__cause__, redis.RedisError):
                raise
            problem = problem.__cause__
        if follows and isinstance(problem, _UNREACHABLE):
            what = _("unknown: {why}", why=_why(problem))
            yield warning(what, _("see the findings about the server"))
        else:
            what = _("{name}: {meaning}", name=shown_url(url), meaning=_why(problem))
            yield error(what, _advice(problem, setting))


def _why(problem: redis.RedisError) -> str:
    if isinstance(problem, _TIMEOUTS):
        return _("no answer within {s:g} s", s=TIMEOUT_S)
    if isinstance(problem, redis.AuthenticationError):
        return _("the user or the password was rejected")
    return re.sub(r"^User \S+ has", "the user has", one_line(problem))


def _advice(problem: redis.RedisError, setting: str) -> str:
    if isinstance(problem, redis.AuthenticationError):
        return _("set the right user and password in {setting}", setting=setting)
    if isinstance(problem, redis.exceptions.NoPermissionError):
        return _(
            "give the user of {setting} the rights of its role: see docs/operate/redis.md, Users",
            setting=setting,
        )
    if isinstance(problem, _UNREACHABLE):
        return _(
            "start the server, open the network path to it, or correct {setting}", setting=setting
        )
    return _(
        "check the server's log, and that {setting} names the intended server and database",
        setting=setting,
    )
