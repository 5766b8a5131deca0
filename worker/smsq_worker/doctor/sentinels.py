"""The Sentinels: whether a failover can take place, and what it would undo."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any, Final

import redis

from smsq.connection import Client
from smsq.redis_urls import Sentinels, read
from smsq_worker.doctor.finding import Finding, error, ok, one_line, warning
from smsq_worker.i18n import _

ENOUGH: Final = 3
LEAST: Final = "min-replicas-to-write"


def check(url: str, wait_replicas: int, client: Client) -> Iterator[Finding]:
    """Check the Sentinels, and how the primary guards against loss. Raises redis.RedisError."""
    at, seen = read(url), list[dict[str, Any]]()
    for host, port in at.hosts:
        found = _service(at, host, port)
        if isinstance(found, Finding):
            yield found
        else:
            seen.append(found)
    yield from _agreement(at, seen)
    replicas = max((int(service["num-slaves"]) for service in seen), default=0)
    yield _replicas(replicas, wait_replicas)
    yield _loss_protection(client, wait_replicas)


def _service(at: Sentinels, host: str, port: int) -> dict[str, Any] | Finding:
    where = _("the Sentinel {host}:{port}", host=host, port=port)
    with closing(redis.Redis(host, port, **at.options)) as sentinel:
        try:
            services: Any = sentinel.sentinel_masters()
        except redis.RedisError as problem:
            advice = _("start it, open the network path to it, or correct SMSQ_REDIS_URL")
            why = one_line(problem)
            return warning(_("{where} does not answer: {why}", where=where, why=why), advice)
    if at.service not in services:
        what = _("{where} knows no service {name!r}", where=where, name=at.service)
        return error(what, _("name the service of its `sentinel monitor` in SMSQ_REDIS_URL"))
    return dict(services[at.service])


def _agreement(at: Sentinels, seen: list[dict[str, Any]]) -> Iterator[Finding]:
    primaries = sorted({f"{service['ip']}:{service['port']}" for service in seen})
    if len(primaries) > 1:
        yield error(
            _("the Sentinels name different primaries: {names}", names=", ".join(primaries)),
            _("a failover may be in progress; otherwise configure them to monitor the same one"),
        )
    elif primaries:
        what = _(
            "{n} of {all} Sentinels name the primary {name}",
            n=len(seen),
            all=len(at.hosts),
            name=primaries[0],
        )
        yield ok(what)
    if len(at.hosts) < ENOUGH:
        what = _("{n} Sentinels are too few to agree on a failover", n=len(at.hosts))
        advice = _("run {n}, on different machines, and name them all in SMSQ_REDIS_URL", n=ENOUGH)
        yield warning(what, advice)


def _replicas(count: int, wait_replicas: int) -> Finding:
    if count < wait_replicas:
        what = _(
            "{n} replicas, but SMSQ_REDIS_WAIT_REPLICAS is {needed}: nothing is sent",
            n=count,
            needed=wait_replicas,
        )
        return error(what, _("start more replicas, or set it lower"))
    if not count:
        return error(_("no replica: a failover has no target"), _("start one, better two"))
    return ok(_("{n} replicas", n=count))


def _loss_protection(client: Client, wait_replicas: int) -> Finding:
    try:
        least = client.config_get(LEAST).get(LEAST)
    except redis.ResponseError:
        what = _("{setting} unknown: the server forbids CONFIG GET", setting=LEAST)
        return warning(what, _("it should be 1"))
    if least == "0":
        what = _(
            "{setting} is 0: a primary that is cut off accepts messages that will be lost",
            setting=LEAST,
        )
        return warning(what, _("set {setting} 1 on every server", setting=LEAST))
    if not wait_replicas:
        what = _(
            "a failover undoes what the replicas do not have yet, and messages may be sent again"
        )
        advice = _("set SMSQ_REDIS_WAIT_REPLICAS to 1 for producers, workers and the HTTP API")
        return warning(what, advice)
    what = _(
        "{setting} is {value}, and sending waits for {n} replicas",
        setting=LEAST,
        value=least,
        n=wait_replicas,
    )
    return ok(what)
