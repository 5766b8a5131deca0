"""Check everything that messages depend on, and report what to change.

Nothing is changed, no SMS is sent, and the gateway receives no HTTP request. The parts are checked
in parallel, each in a thread; a check that does not finish in time is reported as such, so that
`smsq doctor` never hangs itself.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from threading import Thread
from typing import Final

from smsq.redis_urls import names_sentinels
from smsq_worker.config.settings import Settings
from smsq_worker.doctor import accounts, gateway, ledger, machine, notify, queues, sentinels, server
from smsq_worker.doctor.access import on_redis
from smsq_worker.doctor.finding import Finding, error
from smsq_worker.i18n import _
from smsq_worker.infra.heartbeat import FOLDER

WITHIN_S: Final = 7.5

Check = Callable[[], Iterable[Finding]]


def checks(settings: Settings) -> dict[str, Check]:
    """Return the check of each part, by the part's name."""
    on_ledger = on_broker = partial(on_redis, settings.redis_url, "SMSQ_REDIS_URL")
    judge = partial(server.check, notify_queue=_notify_queue_in(settings.redis_url, settings))
    found: dict[str, Check] = {"ledger": partial(on_ledger, judge)}
    if settings.broker_url != settings.redis_url:
        on_broker = partial(on_redis, settings.broker_url, "SMSQ_BROKER_URL")
        notify_queue = _notify_queue_in(settings.broker_url, settings)
        judge = partial(server.check, is_ledger=False, notify_queue=notify_queue)
        found["broker"] = partial(on_broker, judge)
    if names_sentinels(settings.redis_url):
        check = partial(sentinels.check, settings.redis_url, settings.wait_replicas)
        found["sentinels"] = partial(on_ledger, check, follows=True)
    return found | {
        "settings": partial(machine.check_environment, os.environ),
        "queues": partial(on_broker, partial(queues.check, settings.broker_url), follows=True),
        "notify": partial(notify.check, settings),
        "schema": partial(on_ledger, ledger.check_schema, follows=True),
        "functions": partial(on_ledger, ledger.check_functions, follows=True),
        "messages": partial(on_ledger, ledger.check_messages, follows=True),
        "encryption": partial(on_ledger, partial(ledger.check_encryption, settings), follows=True),
        "clocks": partial(machine.check_schedulers, settings.home / FOLDER),
        "spool": partial(machine.check_spool, settings.home / "spool", settings.report_spool_bytes),
        **_gateways(settings),
        "accounts": partial(on_ledger, partial(accounts.check, settings), follows=True),
        "door": partial(machine.check_api, settings),
    }


def _gateways(settings: Settings) -> dict[str, Check]:
    if settings.accounts_file is None:
        return {"gateway": partial(gateway.check, settings)}
    found: dict[str, Check] = {
        f"gateway {one.account.name}": partial(gateway.check_account, settings, one.account.name)
        for one in settings.accounts
    }
    return found | {"test numbers": partial(gateway.check_test_numbers, settings)}


def _notify_queue_in(url: str, settings: Settings) -> str:
    """Return the queue of `notify=` tasks if it is in this database."""
    return settings.notify_queue if settings.notify_broker_url == url else ""


def run(checks: Mapping[str, Check], *, within_s: float = WITHIN_S) -> list[tuple[str, Finding]]:
    """Run checks in parallel, for at most `within_s`; return findings with the names of parts."""
    found: dict[str, list[Finding]] = {name: [] for name in checks}
    threads = {
        # Daemons: nothing can end a thread that waits for a resolver.
        name: Thread(target=_collect, args=(check, found[name]), daemon=True)
        for name, check in checks.items()
    }
    deadline = time.monotonic() + within_s
    for thread in threads.values():
        thread.start()
    for name, thread in threads.items():
        thread.join(max(0.0, deadline - time.monotonic()))
        if thread.is_alive():
            what = _("the check did not finish within {s:g} s", s=within_s)
            advice = _("something that it depends on does not answer, perhaps the name server")
            found[name].append(error(what, advice))
    return [(name, finding) for name, findings in found.items() for finding in tuple(findings)]


def _collect(check: Check, found: list[Finding]) -> None:
    try:
        found.extend(check())
    except Exception as problem:  # noqa: BLE001 - the other parts are to be reported all the same
        # Only its type: its text may hold anything.
        what = _("the check failed: {error}", error=type(problem).__name__)
        found.append(error(what, _("this is a bug in smsq doctor; please report it")))
