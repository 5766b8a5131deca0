"""What is measured in every scenario, while it runs."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event, Thread
from typing import Any, Final

import psutil
import redis

from bench.figures import most_in_a_second, ms, part, parts, within
from bench.peers.goals import Goal
from bench.place import Place, Used
from bench.scale.probes import Otps, producing
from bench.scale.queues import Waiting, length, waiting
from harness.waiting import eventually
from smsq import keys

RATE: Final = 50
OTP_P99_MS: Final = 300.0
LOOK_S: Final = 1.0
QUIET_S: Final = 2.0
"""Longer than a call, and than the gate needs to close."""


@dataclass
class Peaks:
    """The most that was seen."""

    rss: int = 0
    wakeups: int = 0
    load: float = 0.0

    def look(self, place: Place) -> None:
        """Look once; a server that is away is left out."""
        self.load = max(self.load, os.getloadavg()[0])
        try:
            pid = int(place.client.info("server")["process_id"])  # type: ignore[index]
            self.rss = max(self.rss, psutil.Process(pid).memory_info().rss)
            self.wakeups = max(self.wakeups, length(place))
        except (redis.RedisError, psutil.Error):
            return


@dataclass
class Measure:
    """A scenario under measurement."""

    place: Place
    otps: Otps
    peaks: Peaks
    began: float = field(default_factory=time.monotonic)
    before: Used | None = None
    after: Used | None = None
    ended: float = 0.0
    left: Waiting = Waiting(0, 0, 0)
    done: int = 0
    """The wake-ups that workers have taken and not given back."""

    def begin(self) -> None:
        """Measure from now on."""
        self.began, self.before = time.monotonic(), self.place.used()

    def end(self) -> None:
        """Stop measuring, wait for the last otps, then pause and look at the queues."""
        eventually(lambda: self.otps.has_asked(self.began))  # However slow this machine is.
        self.after, self.ended = self.place.used(), time.monotonic()
        self.otps.end()
        self.place.pause("the queues are looked at")
        time.sleep(QUIET_S)
        self.left, self.done = waiting(self.place), self.place.wakeups_done()

    def figures(self, wakeups: int) -> dict[str, Any]:
        """Give the columns that all scenarios have; `wakeups` were published by the filling."""
        assert self.before is not None
        assert self.after is not None
        calls = self.place.gateway.calls()
        seconds, waits = self.ended - self.began, self.waits()
        return {
            "otps": len(waits),
            "delay() to call p50/p99/max": parts(waits),
            "never": waits.count(float("inf")),
            "calls/s": f"{len(within(calls, self.began, self.ended)) / seconds:.1f}",
            "most/s": most_in_a_second(call.at for call in calls),
            "memory MB": round(self.memory() / 1e6),
            "rss MB": round(self.peaks.rss / 1e6),
            "redis": f"{(self.after.redis_cpu_s - self.before.redis_cpu_s) / seconds:.0%}",
            "workers": f"{(self.after.worker_cpu_s - self.before.worker_cpu_s) / seconds:.0%}",
            "wake-ups": self.published(),
            "again": self.published() - wakeups - self._asked(),
            "at once": self.peaks.wakeups,
            "named": f"{self.left.names}/{self.left.messages}",
            "errors": len(self.place.errors()),
            "load": f"{self.peaks.load:.1f}",
        }

    def waits(self) -> list[float]:
        """Give the times from delay() to call of the otps that were asked for meanwhile."""
        return self.otps.waits(self.began, self.ended)

    def published(self) -> int:
        """Count the wake-ups that ever were in the queues: those left, and those that are done."""
        return self.left.wakeups + self.done

    def goals(self, messages: int) -> list[Goal]:
        """Give what every scenario is to reach; `messages` could go, besides the otps."""
        failed = sum(call.mode != "ok" for call in self.place.gateway.calls())
        due = messages + self._asked() + failed  # what failed is woken up once more
        return [
            Goal("otp, delay() to call p99", 1000 * part(self.waits(), 99), OTP_P99_MS, "ms"),
            Goal("wake-ups", self.published(), due, "of messages"),
            Goal("the queues name", self.left.names, max(1, self.left.messages), "of different"),
        ]

    def _asked(self) -> int:
        return len(self.otps.sent) - self.otps.refused()

    def memory(self) -> int:
        """Give the most that Redis has used, in bytes."""
        info: Any = self.place.client.info("memory")
        return int(info["used_memory_peak"])

    def notes(self) -> str:
        """Say how far the figures can be trusted."""
        calls, otps = self.place.gateway.calls(), self.otps
        by_worker = len({call.worker for call in calls})
        took = [one.took for one in otps.sent if not one.error]
        return (
            f"{by_worker} workers called; delay() took {parts(took)}, refused {otps.refused()}; "
            f"beats missed {otps.missed()}; gateway's lag {ms(self.place.gateway.lag_s())}; "
            f"given back {self.place.given_back()}; the slowest: {self._slowest()}"
        )

    def _slowest(self) -> str:
        """Say where the slowest otps waited: for their admission, or after it for their call."""
        words = []
        for call in self.otps.slowest(self.began, self.ended):
            holder: Any = self.place.client.get(f"{keys.PREFIX}mid:{call.mid}")
            times: Any = self.place.client.hmget(
                keys.message(str(holder).split(" ")[-1]), ["enqueued", "1:at"]
            )
            if None in times:
                continue
            entered, admitted = (float(at) / 1000 for at in times)
            words.append(f"{ms(admitted - entered)} to admission, {ms(call.wall - admitted)} on")
        return ", ".join(words) or "not known"


@contextmanager
def measuring(place: Place) -> Iterator[Measure]:
    """Start a producer, and look on until the block ends."""
    stop, peaks = Event(), Peaks()

    def look() -> None:
        while not stop.wait(LOOK_S):
            peaks.look(place)

    watcher = Thread(target=look)
    watcher.start()
    try:
        with producing(place) as otps:
            yield Measure(place, otps, peaks)
    finally:
        stop.set()
        watcher.join()
