"""Two accounts: the first fails in every way, and workers and Redis are killed meanwhile.

FAILOVER_TEST_MESSAGES says how many messages in each way, by hand: CI has 50.
"""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from itertools import cycle
from pathlib import Path
from threading import Thread

import pytest
from celery import Celery
from kombu.exceptions import OperationalError

from harness.accounts import BACKUP_TOKEN, MAIN, ROUTES, accounts_file, backup
from harness.api import serving
from harness.credentials import TOKEN
from harness.failing_vendor import FailingVendor, Mode
from harness.machine import Machine
from harness.outage import Outage
from harness.waiting import eventually
from smsq import keys
from smsq.contract import Lane, parse
from smsq.errors import LedgerUnavailable
from smsq.ledger_writer import LedgerWriter
from smsq.publishing import publish
from smsq.settings import ProducerSettings
from smsq.tracking import Status, read_status

MESSAGES = int(os.environ.get("FAILOVER_TEST_MESSAGES", "50"))
LARGE = 500
PER_S = 50.0 if MESSAGES < LARGE else 100.0
LONG_S = 90 + MESSAGES / 10
WAYS: tuple[Mode, ...] = ("refused", "killed", "silent", "balance", "503", "garbage", "busy")
QUICK = {
    "SMSQ_CONNECT_TIMEOUT_S": "0.5",
    "SMSQ_READ_TIMEOUT_S": "1",
    "SMSQ_LEASE_S": "8",
    "SMSQ_RETRY_FIRST_S": "0.1",
    "SMSQ_RETRY_MAX_S": "1",
    "SMSQ_PROBE_S": "0.5",
    "SMSQ_BREAKER": "10/50/10",
    "SMSQ_RATE_PER_S": "200",
    "SMSQ_RATE_BURST": "10",
}
TOLD = {"delivered", "held", "failed local:resends"}
"""What a message may come to: the last two say that it is in doubt."""


class Backend:
    """Sends as a careful one does: half of the messages may be doubled, half never."""

    def __init__(self, here: Machine) -> None:
        self.phones: dict[str, str] = {}
        """By the ids of what was sent."""
        self._writer = LedgerWriter(here.client, ProducerSettings.load(here.environ))
        self._celery = Celery(broker=here.environ["SMSQ_REDIS_URL"], set_as_current=False)
        self._lanes = cycle([Lane.OTP, Lane.NOTICE, Lane.NOTICE, Lane.BULK, Lane.BULK])

    def send(self, lane: Lane | None = None) -> str:
        n, lane = len(self.phones), lane or next(self._lanes)
        phone, message_id = f"139{n:08}", f"m{n}"
        policy = "hold" if is_held_in_doubt(phone) else "resend"
        message = parse((phone, "SMS_1001", "482913"), {"lane": lane, "on_ambiguous": policy})
        patiently(lambda: self._writer.enter(message_id, message))
        self.phones[message_id] = phone
        with suppress(OperationalError):  # Its timer wakes it up.
            publish(self._celery, message_id, lane)
        return message_id

    def send_some(self) -> None:
        began = time.monotonic()
        for n in range(MESSAGES):
            time.sleep(max(0.0, began + n / PER_S - time.monotonic()))
            self.send()


def is_held_in_doubt(phone: str) -> bool:
    return int(phone) % 2 == 0


def patiently(act: Callable[[], object]) -> None:
    while True:
        with suppress(LedgerUnavailable):
            act()
            return
        time.sleep(0.05)


def state(status: Status) -> str:
    return (
        f"{status.state} {status.reason or ''}".strip()
        if status.state == "failed"
        else status.state
    )


@pytest.mark.timeout(int(60 + 10 * LONG_S))
def test_the_first_account_fails_in_every_way(outage: Outage, tmp_path: Path) -> None:
    here, is_large = outage.here, MESSAGES >= LARGE
    with FailingVendor() as main, FailingVendor() as second:
        table = backup(url=second.url, rate_per_s=200, burst=10)
        here.environ |= QUICK | {
            "SMSQ_GATEWAY_URL": main.url,
            "SMSQ_ACCOUNTS_FILE": accounts_file(tmp_path, MAIN, table, ROUTES),
        }
        workers = [here.start_worker(), here.start_worker()]
        backend = Backend(here)
        with serving(here.environ, tmp_path / "api.log") as api:
            main.reports_to(f"{api.url}/reports/{TOKEN}")
            second.reports_to(f"{api.url}/reports/{BACKUP_TOKEN}")
            for n, way in enumerate(WAYS):
                load = Thread(target=backend.send_some)
                load.start()
                main.becomes(way)
                came = len(second.calls)
                eventually(lambda came=came: len(second.calls) > came, LONG_S)
                if is_large or n in {1, 4}:
                    outage.kill_redis()
                    outage.restart_redis()
                if is_large or n in {0, 2}:
                    workers[0].kill()
                    workers[0].wait(30)
                    workers.append(here.start_worker())
                    del workers[0]
                load.join()
                main.becomes("ok")
                _takes_again(main, backend)
            statuses = _settled(outage, backend)

    ends = Counter(map(state, statuses.values()))
    sms = main.sent + second.sent
    doubled = {phone: times - 1 for phone, times in sms.items() if times > 1}
    counted = here.possible_duplicates()
    figures = (
        f"{len(statuses)} messages: {dict(ends)}; {len(main.calls)} calls at the first, "
        f"{len(second.calls)} at the second; {sum(doubled.values())} doubled, {counted} counted"
    )
    sys.stdout.write(f"{figures}\n")
    assert set(ends) <= TOLD, figures
    never = [m for m, one in statuses.items() if not sms[backend.phones[m]]]
    # A worker that died before its call leaves doubt too, and the worst is not told of that.
    assert all(statuses[m].state != "delivered" for m in never)
    assert not [phone for phone in doubled if is_held_in_doubt(phone)], figures
    assert sum(doubled.values()) <= counted, figures


def _takes_again(main: FailingVendor, backend: Backend) -> None:
    """Send until the first account has taken a message: probes go there, and one gets through."""
    taken, deadline = main.taken(), time.monotonic() + LONG_S
    while main.taken() == taken:
        assert time.monotonic() < deadline, "nothing goes by the account that is back"
        backend.send(Lane.NOTICE)
        time.sleep(0.1)


def _settled(outage: Outage, backend: Backend) -> dict[str, Status]:
    """Give what all came to; that a worker took wake-ups with it is found out at once."""
    client, url = outage.here.client, outage.here.environ["SMSQ_REDIS_URL"]
    left, found = set(backend.phones), dict[str, Status]()
    deadline = time.monotonic() + LONG_S
    while left:
        for message_id in sorted(left):
            status = read_status(client, url, message_id)
            assert status is not None, f"{message_id} is lost"
            found[message_id] = status
            if status.final or status.state == "held":
                left.discard(message_id)
            elif status.state == "queued":
                outage.here.client.zadd(keys.TIMERS, {message_id: 0}, xx=True)
        assert time.monotonic() < deadline, [found[one] for one in sorted(left)[:3]]
        time.sleep(0.2)
    return found
