"""A Redis server: whether it is fit to hold messages."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Final

from smsq.connection import Client
from smsq_worker.doctor import neighbours
from smsq_worker.doctor.facts import Facts, gather
from smsq_worker.doctor.finding import Finding, error, graded, ok, warning
from smsq_worker.infra.memory import NEARLY
from smsq_worker.infra.redis_fitness import (
    NEEDED,
    NO_EVICTION,
    OTHER_PRODUCTS,
    is_product,
    too_old,
)

MEMORY_WARN, MEMORY_FAIL = 0.6, NEARLY
SLOW_MS: Final = 50
CLOCKS_APART_S: Final = 2.0

NO_CONFIG: Final = (
    "the server forbids CONFIG GET, as managed ones do: see its console, or allow CONFIG|GET"
)


def check(client: Client, *, is_ledger: bool = True, notify_queue: str = "") -> Iterator[Finding]:
    """Check a server. Raises redis.RedisError.

    A broker that is not the ledger may lose its data: the scheduler publishes again what is lost.
    """
    facts = gather(client)
    for judge in CHECKS:
        yield judge(facts)
    loss = persistence(facts)
    yield loss if is_ledger or loss.level != "error" else warning(loss.what, loss.advice)
    yield from writes(facts)
    yield from neighbours.check(client, notify_queue)


def product(facts: Facts) -> Finding:
    """Require Redis 7 or newer, or any Valkey."""
    info = facts.info
    for name in OTHER_PRODUCTS:
        if is_product(name, info):
            return warning(f"this is {name}, not Redis", "smsq is tested on Redis and Valkey only")
    if is_product("valkey", info):
        return ok(f"Valkey {info.get('valkey_version', '')}".strip())
    version = str(info.get("redis_version", ""))
    if not version[:1].isdigit():
        what = "product and version unknown: INFO does not contain them"
        return warning(what, f"{NEEDED}; allow the user INFO")
    return error(f"Redis {version}", NEEDED) if too_old(info) else ok(f"Redis {version}")


def cluster(facts: Facts) -> Finding:
    """Refuse a cluster: scripts derive keys from ids, and kombu cannot use one."""
    enabled = facts.info.get("cluster_enabled")
    if enabled is None:
        return warning("unknown whether this is a cluster", "make sure that it is not")
    if enabled:
        return error(
            "this is a node of a cluster",
            "neither smsq nor Celery can use one: set up a server without cluster-enabled",
        )
    return ok("no cluster")


def role(facts: Facts) -> Finding:
    """Refuse a replica: writes to one are refused, or lost at its next synchronisation."""
    found = facts.info.get("role")
    if found in {"slave", "replica"}:
        return error("this is a replica, which takes no writes", "name the primary in the URL")
    if not found:
        return warning("role unknown: INFO does not contain it", "make sure this is the primary")
    return ok("primary")


def eviction(facts: Facts) -> Finding:
    """Require that messages are never evicted."""
    policy = facts.setting("maxmemory-policy")
    if not policy:
        return warning("maxmemory-policy unknown", f"it must be noeviction; {NO_CONFIG}")
    if policy != NO_EVICTION:
        return error(
            f"maxmemory-policy is {policy}: when memory is short, the server evicts messages",
            "set maxmemory-policy to noeviction (CONFIG SET, and in the server's own settings)",
        )
    return ok("maxmemory-policy is noeviction")


def memory(facts: Facts) -> Finding:
    """Require free memory: under noeviction a full server accepts nothing new."""
    used, most = facts.number("used_memory"), facts.number("maxmemory")
    limit = most or facts.number("total_system_memory")
    if used is None or not limit:
        what = "memory use unknown: INFO does not contain it"
        return warning(what, "monitor it by other means")
    of = "maxmemory" if most else "the machine's memory, as maxmemory is 0"
    share = used / limit
    level = graded(share, warn_above=MEMORY_WARN, fail_above=MEMORY_FAIL)
    what = f"{_size(used)} of {_size(limit)} in use, {share:.0%} of {of}"
    if level == "ok":
        hint = "with maxmemory set, a full server refuses writes instead of being killed"
        return ok(what, "" if most else hint)
    advice = "give the server more memory, or lower SMSQ_RETENTION_S; a full one accepts nothing"
    return Finding(level, what, advice)


def latency(facts: Facts) -> Finding:
    """Warn of slow round trips: each message takes several."""
    what = f"a round trip takes {facts.round_trip_ms:.1f} ms"
    if facts.round_trip_ms > SLOW_MS:
        return warning(what, "move workers and server closer together, or find what slows it down")
    return ok(what)


def clocks(facts: Facts) -> Finding:
    """Warn if the clocks differ: the ledger uses the server's, a caller's send_at its own."""
    apart = facts.clock_ahead_s
    what = f"its clock and this machine's are {abs(apart):.1f} s apart"
    if abs(apart) > CLOCKS_APART_S:
        which = "ahead of" if apart > 0 else "behind"
        advice = "synchronise both by NTP: schedules and the end of a ttl use the server's clock"
        return warning(f"{what}: the server is {which} this machine", advice)
    return ok(what)


CHECKS: Final[tuple[Callable[[Facts], Finding], ...]] = (
    *(product, cluster, role, eviction, memory, latency, clocks),
)

_FSYNC: Final = {
    "always": ok("append-only file, appendfsync always: a crash loses nothing"),
    "everysec": ok("append-only file, appendfsync everysec: a crash loses about a second"),
    "no": warning(
        "append-only file, appendfsync no: a crash of the machine may lose half a minute",
        "set appendfsync to everysec",
    ),
}
_FSYNC_UNKNOWN: Final = warning(
    "append-only file; unknown how often it is flushed to disk",
    f"appendfsync must be everysec or always; {NO_CONFIG}",
)


def persistence(facts: Facts) -> Finding:
    """Report how much a crash of the server loses."""
    aof = facts.setting("appendonly") or str(facts.info.get("aof_enabled", ""))
    if aof in {"1", "yes"}:
        return _FSYNC.get(facts.setting("appendfsync"), _FSYNC_UNKNOWN)
    advice = "set appendonly yes and appendfsync everysec"
    if aof not in {"0", "no"}:
        return warning("unknown whether an append-only file is kept", f"{advice}; {NO_CONFIG}")
    if "save" not in facts.config:
        what = "no append-only file is kept, and unknown whether snapshots are"
        return warning(what, f"{advice}; {NO_CONFIG}")
    if not facts.setting("save"):
        what = "neither an append-only file nor snapshots: a restart loses every message"
        return error(what, advice)
    what = "snapshots only: a crash loses what came since the last one, now"
    return warning(f"{what} {_since_save(facts)}", advice)


def writes(facts: Facts) -> Iterator[Finding]:
    """Report failed writes to the disk; after some of them the server refuses writes."""
    snapshots = facts.config.get("save", "perhaps")
    for name, file, refuses in (
        ("aof_last_write_status", "write to the append-only file", True),
        ("aof_last_bgrewrite_status", "rewrite of the append-only file", False),
        ("rdb_last_bgsave_status", "snapshot", bool(snapshots)),
    ):
        if facts.info.get(name, "ok") != "ok":
            yield (error if refuses else warning)(
                f"the last {file} failed{': the server refuses messages' * refuses}",
                "free space on the server's disk, check its folder's permissions, see its log",
            )


def _since_save(facts: Facts) -> str:
    changes = facts.number("rdb_changes_since_last_save")
    saved_at = facts.number("rdb_last_save_time")
    if changes is None or saved_at is None:
        return "an unknown number of changes"
    return f"{changes} changes in {max(0, round(time.time() - saved_at))} s"


def _size(count: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:  # noqa: PLR2004
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"
