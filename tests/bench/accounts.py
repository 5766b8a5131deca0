"""Two accounts: the rate of each, and what an otp takes while the first fails."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from bench.figures import Arrival, Report, ms, part, parts, within
from bench.place import Gateway, Place, until
from bench.plan import Plan
from bench.product import ACCOUNT, Service, free_port
from harness.accounts import BACKUP, MAIN, accounts_file, backup
from harness.waiting import eventually

RATES = (20, 50)
"""Of the first account and the second."""
SETTLE_S = 3.0
PROMISED_S = 1.0
TIMEOUT_S = 2.0
BREAKER_CALLS = 10
OTPS_PER_S, NOTICES_PER_S = 10, 2
"""Notices are among them, as otps are no probes while others may be."""
LATENCY_S = 0.05
MODES = ("400", "503", "rubbish", "silent", "gone")
IN_ORDER = f'[[routes]]\naccounts = ["main", "{BACKUP}"]\n'
BY_WEIGHT = f"[[routes]]\naccounts = {{ main = 1, {BACKUP} = 1 }}\n"
AT_BACKUP = f"{ACCOUNT}@{BACKUP}"


def run(place: Place, plan: Plan) -> Report:
    """Measure the rates of any number of workers, then the otps of each way to fail."""
    report = Report("accounts")
    rates = Report("accounts: both rates at once")
    for workers in plan.workers:
        _rates(place, rates, workers=workers, seconds=plan.seconds)
    for mode in MODES:
        _failover(place, report, mode, seconds=plan.seconds)
    report.notes.append(
        "delay() to the answer of the account that accepted it, p50 / p99 / longest; found out: "
        f"until the first is paused; a call's timeout is {TIMEOUT_S:g} s\n\n{rates.text()}"
    )
    report.broken += rates.broken
    return report


class First:
    """The first account's gateway, which can be killed; the second's is the place's own."""

    def __init__(self, place: Place) -> None:
        self.gateway = Gateway(free_port())
        self._place = place
        self._kept = list[Arrival]()

    def start(self) -> None:
        command = [sys.executable, "-m", "bench.gateway", str(self.gateway.port)]
        environ = dict(os.environ)
        self._place.start(Service("first", command, environ, self.gateway.answers))
        self._pid = self._place.pid_of_last()

    def fails(self, mode: str) -> None:
        if mode == "gone":
            calls, answered = self.gateway.calls(), time.monotonic() - LATENCY_S
            self._kept = [call for call in calls if call.at < answered]
            os.kill(self._pid, signal.SIGKILL)
        else:
            self.gateway.set(mode=mode)

    def calls(self) -> list[Arrival]:
        """Give the calls noted; of one that was killed, those that it had answered."""
        return self._kept or self.gateway.calls()


@contextmanager
def _two(place: Place, name: str, routes: str, workers: int, **settings: Any) -> Iterator[First]:
    """Start workers of two accounts that are paused."""
    first = First(place)
    tables = (
        f'{MAIN}url = "{first.gateway.url}"\nrate_per_s = {RATES[0]}\nburst = 1\n',
        backup(url=place.gateway.url, rate_per_s=RATES[1], burst=1),
        routes,
    )
    folder = place.folder / f"{name}-accounts"
    folder.mkdir()
    place.fresh(name, SMSQ_ACCOUNTS_FILE=accounts_file(folder, *tables), **settings)
    place.control.pause(AT_BACKUP, "until all workers are there")
    first.start()
    for gateway in (first.gateway, place.gateway):
        gateway.set(mode="ok", latency=LATENCY_S)
    try:
        place.start_workers(workers)
        yield first
    finally:
        place.stop_workers()


def _open(place: Place) -> None:
    for scope in (ACCOUNT, AT_BACKUP):
        place.control.resume(scope, "all workers are there")


def _rates(place: Place, report: Report, *, workers: int, seconds: float) -> None:
    with _two(place, f"accounts-rates-{workers}", BY_WEIGHT, workers) as first:
        place.enqueue(int(sum(RATES) * (seconds + 4 * SETTLE_S)), "notice")
        _open(place)
        start = eventually(place.gateway.calls)[0].at + SETTLE_S
        until(start + seconds)
        for name, rate, gateway in zip(
            ("main", BACKUP), RATES, (first.gateway, place.gateway), strict=True
        ):
            achieved = len(within(gateway.calls(), start, start + seconds)) / seconds
            error = 100 * (achieved - rate) / rate
            report.rows.append(
                {
                    "workers": workers,
                    "account": name,
                    "R": rate,
                    "achieved/s": f"{achieved:.2f}",
                    "error": f"{error:+.2f} %",
                    "gateway's lag": ms(gateway.lag_s()),
                    "errors": len(place.errors()),
                }
            )
            who = f"{workers} workers, {name} at {rate}/s"
            report.promise(abs(error) <= 1, f"{who}: {error:+.2f} % off")
        report.promise(place.left() > 0, f"{workers} workers: the backlog was too small to tell")


def _failover(place: Place, report: Report, mode: str, *, seconds: float) -> None:
    settings = {
        "SMSQ_READ_TIMEOUT_S": TIMEOUT_S,
        "SMSQ_CONNECT_TIMEOUT_S": 1,
        "SMSQ_BREAKER": f"{BREAKER_CALLS}/50/60",
        "SMSQ_PROBE_S": 1,
    }
    with _two(place, f"accounts-{mode}", IN_ORDER, 2, **settings) as first:
        _open(place)
        load = Load(place)
        time.sleep(SETTLE_S)
        load.run(seconds / 3)
        healthy, fails = load.mark(), time.monotonic()
        first.fails(mode)
        while not place.control.pauses() and time.monotonic() < fails + 10 * TIMEOUT_S:
            load.run(0.1)
        known = time.monotonic() - fails
        found_out = load.mark()
        load.run(seconds / 2)
        down = load.mark()
        arrived = eventually(lambda: load.all_arrived(first.calls() + place.gateway.calls()), 60)
        phases = {"healthy": healthy, "found out": found_out, "known": down}
        took = {name: load.took(phones, arrived) for name, phones in phases.items()}
        report.rows.append(
            {
                "first": mode,
                "otps": len(load.begun),
                **{name: parts(times) for name, times in took.items()},
                "known after": ms(known),
                "possible duplicates": place.ledger.counters().get("possible_duplicates", 0),
                "failed": place.count("failed"),
                "errors": len(place.errors()),
            }
        )
        late = part(took["known"], 99)
        report.promise(late <= PROMISED_S, f"{mode}: p99 is {ms(late)} once it is known")
        certain = mode in {"400", "503", "gone"}
        longest = max(took["found out"], default=0)
        report.promise(
            not certain or longest <= TIMEOUT_S, f"{mode}: finding out took {ms(longest)}"
        )
        report.promise(not place.count("failed"), f"{mode}: {place.count('failed')} failed")


class Load:
    """Otps at a steady rate, and a few notices."""

    def __init__(self, place: Place) -> None:
        self.begun = dict[str, float]()
        self._place = place
        self._n, self._next = 0, 0.0
        self._marked = 0

    def run(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        self._next = max(self._next, time.monotonic())
        while self._next < end:
            until(self._next)
            self._next += 1 / OTPS_PER_S
            began = time.monotonic()
            (phone,) = self._place.enqueue(1, "otp", self._n)
            self.begun[phone] = began
            if self._n % (OTPS_PER_S // NOTICES_PER_S) == 0:
                self._place.enqueue(1, "notice", 10_000_000 + self._n)
            self._n += 1

    def mark(self) -> list[str]:
        """Give the otps since the last mark."""
        phones = [*self.begun][self._marked :]
        self._marked = len(self.begun)
        return phones

    def all_arrived(self, calls: list[Arrival]) -> dict[str, float]:
        """Give when each otp came to a gateway that accepted it; nothing before all have."""
        found = dict[str, float]()
        for call in sorted(calls):
            if call.mode == "ok" and call.phone in self.begun:
                found.setdefault(call.phone, call.at)
        return found if len(found) == len(self.begun) else {}

    def took(self, phones: list[str], arrived: dict[str, float]) -> list[float]:
        return [arrived[one] + LATENCY_S - self.begun[one] for one in phones]
