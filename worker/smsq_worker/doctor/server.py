"""A Redis server: whether it is fit to hold messages."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Final

from smsq.connection import Client
from smsq_worker.doctor import neighbours
from smsq_worker.doctor.facts import Facts, gather
from smsq_worker.doctor.finding import Finding, error, graded, ok, warning
from smsq_worker.i18n import N_, _
from smsq_worker.infra.memory import NEARLY
from smsq_worker.infra.redis_fitness import (
    NEEDED,
    NO_EVICTION,
    OTHER_PRODUCTS,
    is_product,
    is_replica,
    too_old,
)

MEMORY_WARN, MEMORY_FAIL = 0.6, NEARLY
SLOW_MS: Final = 50
CLOCKS_APART_S: Final = 2.0

NO_CONFIG: Final = N_(
    "the server forbids CONFIG GET, as managed ones do: see its console, or allow CONFIG|GET"
)


def check(client: Client, *, is_ledger: bool = True, notify_queue: str) -> Iterator[Finding]:
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
            what = _("this is {name}, not Redis", name=name)
            return warning(what, _("smsq is tested on Redis and Valkey only"))
    if is_product("valkey", info):
        return ok(f"Valkey {info.get('valkey_version', '')}".strip())
    version = str(info.get("redis_version", ""))
    if not version[:1].isdigit():
        what = _("product and version unknown: INFO does not contain them")
        return warning(what, _("{needed}; allow the user INFO", needed=_(NEEDED)))
    return error(f"Redis {version}", _(NEEDED)) if too_old(info) else ok(f"Redis {version}")


def cluster(facts: Facts) -> Finding:
    """Refuse a cluster: scripts derive keys from ids, and kombu cannot use one."""
    enabled = facts.info.get("cluster_enabled")
    if enabled is None:
        return warning(_("unknown whether this is a cluster"), _("make sure that it is not"))
    if enabled:
        advice = _("neither smsq nor Celery can use one: set up a server without cluster-enabled")
        return error(_("this is a node of a cluster"), advice)
    return ok(_("no cluster"))


def role(facts: Facts) -> Finding:
    """Refuse a replica: writes to one are refused, or lost at its next synchronisation."""
    if is_replica(facts.info):
        what = _("this is a replica, which takes no writes")
        return error(what, _("name the primary in the URL"))
    if not facts.info.get("role"):
        what = _("role unknown: INFO does not contain it")
        return warning(what, _("make sure this is the primary"))
    return ok(_("primary"))


def eviction(facts: Facts) -> Finding:
    """Require that messages are never evicted."""
    policy = facts.setting("maxmemory-policy")
    if not policy:
        return warning(_("maxmemory-policy unknown"), _and_no_config(_("it must be noeviction")))
    if policy != NO_EVICTION:
        return error(
            _(
                "maxmemory-policy is {policy}: when memory is short, the server evicts messages",
                policy=policy,
            ),
            _("set maxmemory-policy to noeviction (CONFIG SET, and in the server's own settings)"),
        )
    return ok(_("maxmemory-policy is noeviction"))


def memory(facts: Facts) -> Finding:
    """Require free memory: under noeviction a full server accepts nothing new."""
    used, most = facts.number("used_memory"), facts.number("maxmemory")
    limit = most or facts.number("total_system_memory")
    if used is None or not limit:
        what = _("memory use unknown: INFO does not contain it")
        return warning(what, _("monitor it by other means"))
    share = used / limit
    level = graded(share, warn_above=MEMORY_WARN, fail_above=MEMORY_FAIL)
    in_use = (
        N_("{used} of {limit} in use, {share:.0%} of maxmemory")
        if most
        else N_("{used} of {limit} in use, {share:.0%} of the machine's memory, as maxmemory is 0")
    )
    what = _(in_use, used=_size(used), limit=_size(limit), share=share)
    if level == "ok":
        hint = _("with maxmemory set, a full server refuses writes instead of being killed")
        return ok(what, "" if most else hint)
    advice = _("give the server more memory, or lower SMSQ_RETENTION_S; a full one accepts nothing")
    return Finding(level, what, advice)


def latency(facts: Facts) -> Finding:
    """Warn of slow round trips: each message takes several."""
    what = _("a round trip takes {ms:.1f} ms", ms=facts.round_trip_ms)
    if facts.round_trip_ms > SLOW_MS:
        advice = _("move workers and server closer together, or find what slows it down")
        return warning(what, advice)
    return ok(what)


def clocks(facts: Facts) -> Finding:
    """Warn if the clocks differ: the ledger uses the server's, a caller's send_at its own."""
    apart = facts.clock_ahead_s
    what = _("its clock and this machine's are {s:.1f} s apart", s=abs(apart))
    if abs(apart) <= CLOCKS_APART_S:
        return ok(what)
    ahead = N_("{what}: the server is ahead of this machine")
    behind = N_("{what}: the server is behind this machine")
    advice = _("synchronise both by NTP: schedules and the end of a ttl use the server's clock")
    return warning(_(ahead if apart > 0 else behind, what=what), advice)


CHECKS: Final[tuple[Callable[[Facts], Finding], ...]] = (
    *(product, cluster, role, eviction, memory, latency, clocks),
)


def persistence(facts: Facts) -> Finding:
    """Report how much a crash of the server loses."""
    aof = facts.setting("appendonly") or str(facts.info.get("aof_enabled", ""))
    if aof in {"1", "yes"}:
        return _append_only(facts.setting("appendfsync"))
    advice = _("set appendonly yes and appendfsync everysec")
    if aof not in {"0", "no"}:
        what = _("unknown whether an append-only file is kept")
        return warning(what, _and_no_config(advice))
    if "save" not in facts.config:
        what = _("no append-only file is kept, and unknown whether snapshots are")
        return warning(what, _and_no_config(advice))
    if not facts.setting("save"):
        what = _("neither an append-only file nor snapshots: a restart loses every message")
        return error(what, advice)
    return warning(_snapshots_only(facts), advice)


def _append_only(fsync: str) -> Finding:
    match fsync:
        case "always":
            return ok(_("append-only file, appendfsync always: a crash loses nothing"))
        case "everysec":
            return ok(_("append-only file, appendfsync everysec: a crash loses about a second"))
        case "no":
            what = _(
                "append-only file, appendfsync no: a crash of the machine may lose half a minute"
            )
            return warning(what, _("set appendfsync to everysec"))
    what = _("append-only file; unknown how often it is flushed to disk")
    return warning(what, _and_no_config(_("appendfsync must be everysec or always")))


def _and_no_config(advice: str) -> str:
    return _("{advice}; {more}", advice=advice, more=_(NO_CONFIG))


def writes(facts: Facts) -> Iterator[Finding]:
    """Report failed writes to the disk, after some of which the server refuses all; and if it does.

    For its disk, or as it has fewer replicas than it needs.
    """
    failed_writes = [*_failed_writes(facts)]
    yield from failed_writes
    if facts.refusal and all(one.level != "error" for one in failed_writes):
        yield error(
            _("the server refuses messages: {words}", words=facts.refusal),
            _("see its log, its disk, and its replicas if it has min-replicas-to-write"),
        )


def _failed_writes(facts: Facts) -> Iterator[Finding]:
    snapshots = facts.config.get("save", "perhaps")
    for name, failed, refuses in (
        ("aof_last_write_status", N_("the last write to the append-only file failed"), True),
        ("aof_last_bgrewrite_status", N_("the last rewrite of the append-only file failed"), False),
        ("rdb_last_bgsave_status", N_("the last snapshot failed"), bool(snapshots)),
    ):
        if facts.info.get(name, "ok") != "ok":
            what = _(failed)
            if refuses:
                what = _("{what}: the server refuses messages", what=what)
            yield (error if refuses else warning)(
                what,
                _("free space on the server's disk, check its folder's permissions, see its log"),
            )


def _snapshots_only(facts: Facts) -> str:
    changes = facts.number("rdb_changes_since_last_save")
    saved_at = facts.number("rdb_last_save_time")
    if changes is None or saved_at is None:
        return _(
            "snapshots only: a crash loses what came since the last one, now an unknown number of "
            "changes"
        )
    return _(
        "snapshots only: a crash loses what came since the last one, now {n} changes in {s} s",
        n=changes,
        s=max(0, round(time.time() - saved_at)),
    )


def _size(count: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:  # noqa: PLR2004
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"
