"""One account becomes two, and one again, with messages and reports under way all the time.

ACCOUNTS_TEST_MESSAGES says how many, by hand: CI has 200.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count, islice
from pathlib import Path

import pytest
import redis
import requests

import smsq
from harness.accounts import BACKUP_TOKEN, MAIN, ROUTES, accounts_file, backup
from harness.api import PATIENCE_S, RunningApi, serving
from harness.credentials import TOKEN
from harness.machine import Machine, ends
from harness.vendor_server import VendorServer, accepted
from harness.waiting import eventually, known
from smsq import keys
from smsq_worker.config.settings import Settings
from smsq_worker.ledger.accounts import outstanding

MESSAGES = int(os.environ.get("ACCOUNTS_TEST_MESSAGES", "200"))
LONG_S = 60 + MESSAGES / 20
BY_SHARES = "[[routes]]\naccounts = { main = 1, backup = 1 }\n"
ONLY_MAIN = '[[routes]]\naccounts = ["main"]\n'


class Numbered(VendorServer):
    """A gateway that counts its mids from 1, as the other one does too."""

    def __init__(self) -> None:
        super().__init__()
        self.unreported: list[str] = []
        numbers = count(1)

        def answer(_: str) -> tuple[int, dict[str, object]]:
            mid = f"{next(numbers):016X}"
            self.unreported.append(mid)
            return accepted(mid)

        self.answer = answer

    def report(self, api: RunningApi, token: str, some: int = MESSAGES * 9) -> None:
        """Report the oldest calls as delivered."""
        found, self.unreported = self.unreported[:some], self.unreported[some:]
        for start in range(0, len(found), 200):
            body = [{"mid": mid, "stat": "DELIVRD"} for mid in found[start : start + 200]]
            answer = requests.post(f"{api.url}/reports/{token}", json=body, timeout=PATIENCE_S)
            answer.raise_for_status()


@pytest.fixture
def other() -> Iterator[Numbered]:
    with Numbered() as vendor:
        yield vendor


@pytest.fixture
def first(host: Machine) -> Iterator[Numbered]:
    with Numbered() as vendor:
        host.environ |= {"SMSQ_GATEWAY_URL": vendor.url, "SMSQ_READ_TIMEOUT_S": "10"}
        yield vendor


def send(n: int, numbers: Iterator[int]) -> list[str]:
    rows = ({"phone": f"138{i:08}", "template": "SMS_1", "code": "1"} for i in islice(numbers, n))
    ids: list[str] = []
    smsq.send_many(rows, lane="notice", on_batch=ids.extend)
    return ids


def stop(worker: subprocess.Popen[bytes]) -> None:
    worker.terminate()
    ends(worker, 0)


def delivered(ids: Sequence[str]) -> bool:
    return all(known(one).state == "delivered" for one in ids)


@contextmanager
def running(host: Machine, folder: Path, **more: str) -> Iterator[RunningApi]:
    """Run an API and a worker with these settings; what is under way is finished at the end."""
    worker = host.start_worker(**more)
    with serving(host.environ | more, folder / f"api{len(host.workers)}.log") as api:
        yield api
        stop(worker)


def test_one_account_becomes_two_and_one_again(
    host: Machine, client: redis.Redis, first: Numbered, other: Numbered, tmp_path: Path
) -> None:
    numbers = count()
    table = backup(url=other.url, rate_per_s=10_000, burst=10_000)

    def of(routes: str) -> dict[str, str]:
        return {"SMSQ_ACCOUNTS_FILE": accounts_file(tmp_path, MAIN, table, routes)}

    def under_way() -> dict[str, int]:
        return outstanding(client, Settings.load(host.environ).rules)

    # One account; half of its messages are still queued when it gets a second one beside it.
    at_first = MESSAGES // 2
    ids = send(at_first, numbers)
    with running(host, tmp_path):
        eventually(lambda: under_way()[""] == at_first == len(first.calls), LONG_S)
    ids += send(MESSAGES - at_first, numbers)
    with running(host, tmp_path, **of(BY_SHARES)) as api:
        ids += send(MESSAGES, numbers)
        eventually(lambda: len(first.calls) + len(other.calls) >= 2 * MESSAGES, LONG_S)
        eventually(lambda: sum(under_way().values()) == 2 * MESSAGES, LONG_S)
        assert min(len(first.calls) - at_first, len(other.calls)) > MESSAGES // 3
        # Old reports and new ones, of each about half.
        first.report(api, TOKEN, at_first + 10)
        other.report(api, BACKUP_TOKEN, MESSAGES // 4)
        eventually(lambda: under_way()["backup"] == len(other.unreported), LONG_S)

    # No message goes there any more, but its reports are awaited.
    with running(host, tmp_path, **of(ONLY_MAIN)) as api:
        calls = len(other.calls)
        ids += send(MESSAGES, numbers)
        eventually(lambda: len(first.calls) + len(other.calls) == 3 * MESSAGES, LONG_S)
        assert len(other.calls) == calls
        refused = host.start_worker()
        ends(refused, 2)
        said = (tmp_path / f"worker{len(host.workers) - 1}.log").read_text()
        assert f"no account backup, where {len(other.unreported)} messages are in" in said
        other.report(api, BACKUP_TOKEN)
        eventually(lambda: under_way()["backup"] == 0, LONG_S)

    # And back to the settings alone.
    with running(host, tmp_path) as api:
        first.report(api, TOKEN)
        eventually(lambda: not any(under_way().values()), LONG_S)
    assert delivered(ids)
    calls_by_phone = Counter(first.phones() + other.phones())
    assert set(calls_by_phone.values()) == {1}
    assert len(calls_by_phone) == len(ids) == 3 * MESSAGES
    assert not client.zcard(keys.PARKED) + client.zcard(keys.INBOX) + client.zcard(keys.TIMERS)
    assert not list(client.scan_iter(f"{keys.EARLY}*"))


def test_a_start_without_the_account_that_was_there_is_refused(
    host: Machine, client: redis.Redis, first: Numbered, tmp_path: Path
) -> None:
    """Workers and HTTP APIs alike, until it is said which account it is."""
    worker = host.start_worker()
    (one,) = send(1, count())
    eventually(lambda: known(one).state == "accepted")
    stop(worker)
    file = accounts_file(tmp_path, backup(), ROUTES.replace('"main", ', ""))
    refused = host.start_worker(SMSQ_ACCOUNTS_FILE=file)
    ends(refused, 2)
    line = (
        "smsq: SMSQ_ACCOUNTS_FILE: 1 message is in flight or waits for a report at the account "
        "that was the only one; say which it is, by was_default = true\n"
    )
    assert (tmp_path / "worker1.log").read_text() == line
    done = subprocess.run(
        [sys.executable, "-m", "smsq_worker", "serve"],
        env=host.environ | {"SMSQ_ACCOUNTS_FILE": file, "SMSQ_API_BIND": "127.0.0.1:0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr.splitlines()[-1:]) == (2, [line.strip()])
