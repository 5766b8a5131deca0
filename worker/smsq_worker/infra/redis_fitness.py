"""Whether a Redis server is fit to hold messages, from INFO alone: it needs no right to CONFIG."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any, Final

from redis.exceptions import ResponseError

from smsq.connection import Client, mapped_errors
from smsq.errors import SettingsError
from smsq.settings import shown_url
from smsq_worker.i18n import N_

log = logging.getLogger(__name__)

LEAST_REDIS: Final = 7
NEEDED: Final = N_("smsq needs Redis 7.0 or newer, or Valkey")
OTHER_PRODUCTS: Final = ("dragonfly", "garnet", "kvrocks")
"""Their versions of Redis say little."""
NO_EVICTION: Final = "noeviction"

Info = Mapping[str, Any]


def read_info(client: Client, *sections: str) -> Info:
    """Return INFO, or sections of it; empty where the server forbids it. Raises redis.RedisError.

    Section by section, as servers took one at a time before Redis 7.
    """
    found: dict[str, Any] = {}
    try:
        for section in sections or ("default",):
            found |= client.info(section)
    except ResponseError:  # no permission, or a command that was renamed or removed
        return {}
    return found


def is_product(name: str, info: Info) -> bool:
    """Return whether a server is a certain one that is not Redis."""
    return f"{name}_version" in info or info.get("server_name") == name


def is_replica(info: Info) -> bool:
    """Return whether a server is a replica, which takes no writes."""
    return info.get("role") in {"slave", "replica"}


def too_old(info: Info) -> str:
    """Return the version of a Redis that is too old, "" for any other server."""
    if any(is_product(name, info) for name in ("valkey", *OTHER_PRODUCTS)):
        return ""
    version = str(info.get("redis_version", ""))
    major = re.match(r"\d+", version)
    return version if major and int(major[0]) < LEAST_REDIS else ""


def evicting(info: Info) -> str:
    """Return the policy of a server that evicts when memory is short, "" for any other."""
    policy = str(info.get("maxmemory_policy", NO_EVICTION))
    return "" if policy == NO_EVICTION else policy


def check_version(client: Client, url: str) -> None:
    """Raise SettingsError for a Redis at SMSQ_REDIS_URL that is too old.

    Raises LedgerUnavailable.
    """
    with mapped_errors(url):
        version = too_old(read_info(client, "server"))
    if version:
        raise SettingsError([f"SMSQ_REDIS_URL: {shown_url(url)} is Redis {version}; {NEEDED}"])


def check(client: Client, url: str, *, allow_eviction: bool) -> None:
    """Check both at the ledger's server at SMSQ_REDIS_URL, at the start of what is no worker.

    Raises as they do.
    """
    check_version(client, url)
    warn(client, url, allow_eviction=allow_eviction)


def warn(client: Client, url: str, *, allow_eviction: bool, is_ledger: bool = True) -> None:
    """Log what makes a server lose messages; nothing where it forbids INFO.

    Raises LedgerUnavailable.
    """
    with mapped_errors(url):
        info = read_info(client, "memory", "persistence")
    whose = f"{'the ledger' if is_ledger else 'the broker'}'s Redis, {shown_url(url)},"
    if policy := evicting(info):
        what = f"{whose} evicts when its memory is short: its maxmemory-policy is {policy}"
        if not is_ledger:
            log.warning("%s; wake-ups that it loses are published again; set noeviction", what)
        elif allow_eviction:
            log.warning("%s; messages are lost then, which SMSQ_ALLOW_EVICTION accepts", what)
        else:
            log.critical(
                "%s; messages are lost then without a word. Set noeviction. The next release "
                "starts here only with SMSQ_ALLOW_EVICTION=1",
                what,
            )
    if is_ledger and info.get("aof_enabled") == 0:
        log.warning(
            "%s keeps no append-only file: a restart loses what came since its last snapshot, or "
            "everything where it makes none; set appendonly yes",
            whose,
        )
