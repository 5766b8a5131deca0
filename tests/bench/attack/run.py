"""Attack the API in each way, and see what it costs those who do not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from threading import Event

import psutil

from bench.attack.bytes import ATTACKS, TOKEN
from bench.figures import Report, ms, part
from bench.place import Place, until
from bench.plan import Plan
from bench.product import Service, free_port
from smsq import keys

GATEWAY, MONITOR = "127.0.0.2", "127.0.0.3"
REPORTS, SENDERS = 1000, 16
MOST_MIB, MOST_S = 200, 0.1
LOOK_S = 0.02
PATIENCE_S = 30.0


def run(place: Place, plan: Plan) -> Report:
    """Try every attack on an API of its own."""
    report = Report("attack")
    _one(place, plan, "nothing", report)
    for name in ATTACKS:
        _one(place, plan, name, report)
    report.notes.append(f"{REPORTS} reports in {plan.seconds:g} s, each on a connection of its own")
    return report


def _one(place: Place, plan: Plan, name: str, report: Report) -> None:
    port = free_port()
    place.fresh("attack", SMSQ_API_BIND=f"127.0.0.1:{port}", SMSQ_REPORT_TOKEN=TOKEN)
    command = [sys.executable, "-m", "smsq_worker", "serve"]
    with _api(place, Service("api", command, place.environ, lambda: _ok(port))) as api:
        idle_mib = api.memory_info().rss / 2**20
        over, most, health = Event(), [0.0], list[float]()
        with ThreadPoolExecutor(3) as pool, _attacker(port, name):
            time.sleep(1)  # so that the attack has begun
            began, cpu_s = time.monotonic(), sum(api.cpu_times()[:2])
            pool.submit(_repeat, over, lambda: most.append(api.memory_info().rss / 2**20))
            asked = pool.submit(_repeat, over, lambda: health.append(_health(port)))
            try:
                failed = _report_all(port, plan.seconds)
            finally:
                over.set()
            cpu = (sum(api.cpu_times()[:2]) - cpu_s) / (time.monotonic() - began)
            asked.result()
        kept = place.client.zcard(keys.INBOX)
    p99 = part(health, 99)
    report.rows.append(
        {
            "attack": name,
            "RSS before": f"{idle_mib:.0f} MiB",
            "at the most": f"{max(most):.0f} MiB",
            "its CPU": f"{cpu:.0%}",
            "reports kept": f"{kept} of {REPORTS}",
            "tried again": failed,
            "/healthz p50": ms(part(health, 50)),
            "p99": ms(p99),
            "asked": len(health),
        }
    )
    sys.stderr.write(f"{report.rows[-1]}\n")  # because the whole takes minutes
    report.promise(max(most) < MOST_MIB, f"{name}: {max(most):.0f} MiB")
    report.promise(kept == REPORTS and not failed, f"{name}: {kept} kept, {failed} tried again")
    report.promise(p99 < MOST_S, f"{name}: /healthz took {ms(p99)}")


@contextmanager
def _api(place: Place, service: Service) -> Iterator[psutil.Process]:
    try:
        place.start(service)
        yield psutil.Process(place.pid_of_last())
    finally:
        place.stop_workers()


@contextmanager
def _attacker(port: int, name: str) -> Iterator[None]:
    if name not in ATTACKS:
        yield
        return
    command = [sys.executable, "-m", "bench.attack.attacker", str(port), name]
    with subprocess.Popen(command, env=os.environ) as process:
        try:
            yield
        finally:
            process.kill()


def _repeat(over: Event, act: Callable[[], None]) -> None:
    while not over.wait(LOOK_S):
        act()


def _report_all(port: int, seconds: float) -> int:
    """Send all reports, evenly; return how often one had to be sent again."""
    began = time.monotonic()

    def report(n: int) -> int:
        failed = 0
        until(began + n * seconds / REPORTS)
        body = json.dumps({"mid": f"{n:016X}", "stat": "DELIVRD"})
        while _asked(port, GATEWAY, "POST", f"/reports/{TOKEN}", body) != 200:
            failed += 1
        return failed

    with ThreadPoolExecutor(SENDERS) as senders:
        return sum(senders.map(report, range(REPORTS)))


def _health(port: int) -> float:
    began = time.monotonic()
    answered = _asked(port, MONITOR, "GET", "/healthz") == 200
    return time.monotonic() - began if answered else PATIENCE_S


def _ok(port: int) -> bool:
    return _asked(port, MONITOR, "GET", "/readyz") == 200


def _asked(port: int, source: str, method: str, path: str, body: str = "") -> int:
    one = HTTPConnection("127.0.0.1", port, PATIENCE_S, source_address=(source, 0))
    try:
        one.request(method, path, body)
        return one.getresponse().status
    except (OSError, HTTPException):
        return 0
    finally:
        one.close()
