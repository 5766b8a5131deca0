"""Whether this release may work in the ledger, and whether the ledger is brought up to date."""

from __future__ import annotations

from collections.abc import Iterator

from smsq.connection import Client
from smsq_worker.doctor.finding import Finding, error, ok, warning
from smsq_worker.ledger.migrations import VERSION, read


def examine(client: Client) -> Iterator[Finding]:
    """Compare the ledger's schema with what this release knows. Raises redis.RedisError."""
    found = read(client)
    if found is None:
        yield ok("the ledger is empty; the first worker says which schema it has")
        return
    told = f"the ledger has schema {found.version}; this release knows up to {VERSION}"
    if found.readable_by > VERSION:
        yield error(
            f"{told}, and the ledger is for those that know {found.readable_by}",
            "upgrade this process, or name another ledger in SMSQ_REDIS_URL",
        )
    elif found.version < VERSION:
        yield warning(told, "restart a worker of this release: its start brings the ledger to it")
    elif found.version > VERSION:
        yield warning(f"{told}, and may work there all the same", "upgrade this process, too")
    else:
        yield ok(f"the ledger has schema {found.version}, as this release")
