"""A worker's remote control, as `celery inspect` and `celery control` use it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from celery import Celery

from harness.machine import Machine

TIMEOUT_S = 5.0


def name_of(worker: subprocess.Popen[bytes]) -> str:
    words: list[str] = list(worker.args)  # type: ignore[arg-type]
    return words[words.index("--hostname") + 1]


@dataclass
class Remote:
    """One worker, asked by its name."""

    app: Celery
    worker: str

    def inspect(self, method: str, *args: Any) -> Any:
        inspect = self.app.control.inspect([self.worker], timeout=TIMEOUT_S, limit=1)
        answers = getattr(inspect, method)(*args)
        assert answers is not None, f"{self.worker} did not answer"
        return answers[self.worker]

    def control(self, command: str, **arguments: Any) -> Any:
        (answer,) = self.app.control.broadcast(
            command,
            arguments=arguments,
            destination=[self.worker],
            reply=True,
            timeout=TIMEOUT_S,
            limit=1,
        )
        return answer[self.worker]

    def active(self) -> list[str]:
        return sorted(task["id"] for task in self.inspect("active"))

    def reserved(self) -> list[str]:
        return sorted(task["id"] for task in self.inspect("reserved"))


@contextmanager
def remote(host: Machine, worker: subprocess.Popen[bytes]) -> Iterator[Remote]:
    with Celery(broker=host.environ["SMSQ_REDIS_URL"], set_as_current=False) as app:
        yield Remote(app, name_of(worker))
