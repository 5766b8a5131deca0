"""The Sentinels: whether a failover can take place, and what it would undo."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any, Final

import redis

from smsq.connection import Client
from smsq.redis_urls import Sentinels, read
from smsq_worker.doctor.finding import Finding, error, ok, one_line, warning

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
    where = f"the Sentinel {host}:{port}"
    with closing(redis.Redis(host, port, **at.options)) as sentinel:
        try:
            services: Any = sentinel.sentinel_masters()
        except redis.RedisError as problem:
            advice = "start it, open the network path to it, or correct SMSQ_REDIS_URL"
            return warning(f"{where} does not answer: {one_line(problem)}", advice)
    if at.service not in services:
        what = f"{where} knows no service {at.service!r}"
        return error(what, "name the service of its `sentinel monitor` in SMSQ_REDIS_URL")
    return dict(services[at.service])


def _agreement(at: Sentinels, seen: list[dict[str, Any]]) -> Iterator[Finding]:
    primaries = sorted({f"{service['ip']}:{service['port']}" for service in seen})
    if len(primaries) > 1:
        yield error(
            f"the Sentinels name different primaries: {', '.join(primaries)}",
            "a failover may be in progress; otherwise configure them to monitor the same one",
        )
    elif primaries:
        yield ok(f"{len(seen)} of {len(at.hosts)} Sentinels name the primary {primaries[0]}")
    if len(at.hosts) < ENOUGH:
        advice = f"run {ENOUGH}, on different machines, and name them all in SMSQ_REDIS_URL"
        yield warning(f"{len(at.hosts)} Sentinels are too few to agree on a failover", advice)


def _replicas(count: int, wait_replicas: int) -> Finding:
    if count < wait_replicas:
        return error(
            f"{count} replicas, but SMSQ_REDIS_WAIT_REPLICAS is {wait_replicas}: nothing is sent",
            "start more replicas, or set it lower",
        )
    if not count:
        return error("no replica: a failover has no target", "start one, better two")
    return ok(f"{count} replicas")


def _loss_protection(client: Client, wait_replicas: int) -> Finding:
    try:
        least = client.config_get(LEAST).get(LEAST)
    except redis.ResponseError:
        return warning(f"{LEAST} unknown: the server forbids CONFIG GET", "it should be 1")
    if least == "0":
        return warning(
            f"{LEAST} is 0: a primary that is cut off accepts messages that will be lost",
            f"set {LEAST} 1 on every server",
        )
    if not wait_replicas:
        return warning(
            "a failover undoes what the replicas do not have yet, and messages may be sent again",
            "set SMSQ_REDIS_WAIT_REPLICAS to 1 for producers, workers and the HTTP API",
        )
    return ok(f"{LEAST} is {least}, and sending waits for {wait_replicas} replicas")
