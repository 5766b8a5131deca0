"""One contender enqueues, and its worker drains the queue while what it uses is read."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

import psutil

from bench.figures import Arrival
from bench.peers.usage import cpu_s
from bench.peers.vendor import phones
from bench.place import Place
from bench.product import ACCOUNT, free_port, services
from bench.tree import THIS, Tree
from harness.paths import TESTS
from harness.waiting import eventually

WARM_UP: Final = 300
"""Messages before those that count. Some fetch as many as 256 ahead."""
TAIL: Final = 300
"""Messages after those that count: at the end as many calls are under way as at the beginning."""
STALLED_S: Final = 300.0

UNLIMITED: Final = {"SMSQ_RATE_PER_S": 10_000, "SMSQ_RATE_BURST": 10_000}
"""Every message takes its slot, but nothing but the machine bounds the rate."""


@dataclass(frozen=True)
class Contender:
    """One of those compared; its module has the rest."""

    name: str
    module: str
    says: str
    """How its worker runs."""
    python: str = sys.executable
    database: int = 0
    tree: Tree = THIS
    """Which code of smsq it runs."""
    share: float = 1.0
    """The part of all messages that it sends, where it would take too long for all."""
    is_watched: bool = False
    """Whether Flower runs beside it."""

    def act(self, *words: object) -> list[str]:
        """Give the command line of `bench.peers.act`."""
        return [self.python, "-m", "bench.peers.act", self.module, *map(str, words)]

    def part(self, count: int) -> int:
        """Give how many of so many messages it sends."""
        return max(2, int(count * self.share))


@dataclass(frozen=True)
class Drained:
    """What was used between two readings while the queue was never empty."""

    messages: int
    seconds: float
    worker_s: float
    redis_s: float
    gateway_s: float
    enqueued_per_s: float


def drain(place: Place, contender: Contender, latency_s: float, messages: int) -> Drained:
    """Send so many messages with a new worker. Everything else in Redis is gone after it."""
    place.fresh(f"{contender.module}-{latency_s}", contender.tree, **UNLIMITED)
    place.control.resume(ACCOUNT, "nothing is to wait for")
    place.gateway.set(latency=latency_s)
    messages, warm_up, tail = (contender.part(n) for n in (messages, WARM_UP, TAIL))
    others = warm_up + tail
    took_s = enqueue(place, contender, others, messages)
    calls: list[Arrival] = []
    with _watched(place, contender), _worker(place, contender) as worker:
        start = _after(place, worker, calls, warm_up)
        first = len(calls) - 1
        end = _after(place, worker, calls, min(len(calls) + messages, messages + others))
        last = len(calls) - 1
        _after(place, worker, calls, messages + others)
    assert last > first, "too few messages to measure anything"
    expected = phones(0, messages + others)
    assert sorted(call.phone for call in calls) == expected, f"{contender.name}: lost or doubled"
    return Drained(
        last - first,
        calls[last].at - calls[first].at,
        *(after - before for before, after in zip(start, end, strict=True)),
        enqueued_per_s=messages / took_s,
    )


def enqueue(
    place: Place, contender: Contender, untimed: int, timed: int, *, first: int = 0
) -> float:
    """Enqueue messages by a contender's own code; give the seconds that the timed ones took."""
    done = subprocess.run(
        contender.act("enqueue", first, untimed, timed),
        env=_environ(place, contender),
        cwd=TESTS,
        stdout=subprocess.PIPE,
        check=True,
    )
    return float(done.stdout)


def _environ(place: Place, contender: Contender) -> dict[str, str]:
    """Give the environment of a contender's processes; no proxy between them and the gateway."""
    redis_url = place.environ["SMSQ_REDIS_URL"].rpartition("/")[0]
    own = {
        "BENCH_GATEWAY_URL": place.gateway.url,
        "BENCH_APP_SECRET": place.environ["SMSQ_APP_SECRET"],
        "BENCH_REDIS_URL": f"{redis_url}/{contender.database}",
    }
    return {k: v for k, v in place.environ.items() if not k.lower().endswith("_proxy")} | own


@contextmanager
def _watched(place: Place, contender: Contender) -> Iterator[None]:
    """Let Flower run meanwhile, where it is to."""
    if contender.is_watched:
        bind = f"127.0.0.1:{free_port()}"
        environ = place.environ | {"SMSQ_FLOWER_BIND": bind}
        place.start(services.flower(f"http://{bind}/", environ))
    try:
        yield
    finally:
        place.stop_workers()


@contextmanager
def _worker(place: Place, contender: Contender) -> Iterator[subprocess.Popen[bytes]]:
    with (place.folder / f"{contender.module}.log").open("ab") as log:
        worker = subprocess.Popen(
            contender.act("worker"),
            env=_environ(place, contender),
            cwd=TESTS,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield worker
    finally:
        # With its children, which not all of them take along.
        with suppress(ProcessLookupError):
            os.killpg(worker.pid, signal.SIGKILL)
        worker.wait()


def _after(
    place: Place, worker: subprocess.Popen[bytes], calls: list[Arrival], count: int
) -> tuple[float, float, float]:
    """Wait for so many calls; give what worker, Redis and gateway have used by then."""

    def there() -> bool:
        assert worker.poll() is None, f"a worker ended, see {place.folder}"
        calls.extend(place.gateway.calls(len(calls)))
        return len(calls) >= count

    eventually(there, STALLED_S)
    return cpu_s(worker.pid), redis_cpu_s(place), cpu_s(gateway_pid())


def redis_cpu_s(place: Place) -> float:
    """Give what the server itself has used: finer than the kernel's ticks."""
    info: Any = place.client.info("cpu")
    return float(info["used_cpu_user"] + info["used_cpu_sys"])


def redis_pid(place: Place) -> int:
    """Find the server's process."""
    info: Any = place.client.info("server")
    return int(info["process_id"])


def gateway_pid() -> int:
    """Find the gateway's process among ours."""
    children = psutil.Process().children()
    return next(one.pid for one in children if "bench.gateway" in one.cmdline())
