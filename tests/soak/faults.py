"""The kinds of faults. Each brings one about, waits while it lasts, and ends it.

| kind | what happens |
| --- | --- |
| kill | a worker is killed (-9) and started again |
| term | a worker is told to end, and started again |
| pause | a worker is stopped for longer than the lease, and goes on |
| redis | Redis is killed (-9) and started again |
| freeze | Redis is stopped for a time: it accepts connections, and answers nothing |
| door | the door is killed (-9) and started again |
| slow-dns | the gateway's name is resolved after longer than the lease |
| no-dns | it is not resolved, which is said after 3 s |
| gateway | the first gateway takes no connections, refuses all, or says 503, rubbish or nothing |
| forget-gateway | connections to the gateway are forgotten: no byte passes, and nobody is told |
| forget-redis | the same with those to Redis |
| disk | the disk is full while Redis is away, perhaps in the middle of a line |
| spool | lines that nobody can read stand in the spool's files, between good ones |
"""

from __future__ import annotations

import secrets
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final

from soak.plan import LEASE_S, MAX_RESENDS, OVER_LEASE_S, Plan
from soak.stage import Stage

TERM_WITHIN_S: Final = 60.0
SPOOLED_WITHIN_S: Final = 3.0
DNS_FAILURE_S: Final = 3.0
"""A call's tries together take longer than the lease."""
DISK_LIMITS: Final = (0, 200, 500)
"""Bytes of a file: none, less than a line, between two lines."""
ANSWERS: Final = {
    "503": b"HTTP/1.1 503 .\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    "rubbish": b"HTTP/1.1 200 .\r\nContent-Length: 3\r\nConnection: close\r\n\r\n<p>",
    "400": b"HTTP/1.1 200 .\r\nContent-Length: 24\r\nConnection: close\r\n\r\n"
    b'{"code": 400, "mid": ""}',
}
RUBBISH: Final = (
    b"",
    b"{not JSON",
    b"\0" * 64,
    b"\xff\xfe\xfd",
    b"null",
    b"5",
    b"[]",
    b"{}",
    b'"a text"',
    b"[" * 100_000,
    b'{"id": "no-such-message"}',
    b'{"id": 5, "attempt": "one", "outcome": "accepted", "detail": [], "mid": {}, "wait_s": 1}',
    b'{"id": "m", "attempt": 1, "outcome": "banana", "detail": "", "mid": "", "wait_s": 1}',
    b'{"id": "m", "attempt": 1, "outcome": "accepted", "detail": "", "mid": "", "wait_s": NaN}',
    b'{"reports": 5}',
    b'{"reports": [["a mid alone"], 7, null]}',
)


@dataclass(frozen=True)
class Scene:
    """What a fault has to do with."""

    plan: Plan
    stage: Stage
    random: Random
    victim: str
    """The process or thing that it has for itself while it lasts."""


@dataclass(frozen=True)
class Fault:
    """A kind of fault; `needs` is a thing's name, or "worker" for any of them."""

    needs: str
    act: Callable[[Scene], None]


def _kill(scene: Scene) -> None:
    scene.stage.kill(scene.victim)
    scene.stage.start(scene.victim)


def _term(scene: Scene) -> None:
    process = scene.stage.living(scene.victim)
    process.terminate()
    try:
        process.wait(TERM_WITHIN_S)
    except subprocess.TimeoutExpired:
        scene.stage.complaints.append(f"{scene.victim} did not end within {TERM_WITHIN_S:g} s")
        scene.stage.kill(scene.victim)
    scene.stage.start(scene.victim)


def _pause(scene: Scene) -> None:
    process = scene.stage.processes[scene.victim]
    with scene.stage.calls_caught():
        process.send_signal(signal.SIGSTOP)
    try:
        time.sleep(OVER_LEASE_S + scene.random.uniform(0, 2))
    finally:
        process.send_signal(signal.SIGCONT)


def _redis(scene: Scene) -> None:
    scene.stage.kill_redis()
    time.sleep(scene.random.uniform(0, 1.5))
    scene.stage.start_redis()


def _freeze(scene: Scene) -> None:
    with scene.stage.calls_caught():
        scene.stage.signal_redis(signal.SIGSTOP)
    try:
        time.sleep(scene.plan.freeze_s)
    finally:
        scene.stage.signal_redis(signal.SIGCONT)


def _resolver(scene: Scene, how: str, seconds: float) -> None:
    with scene.stage.resolving(how):
        time.sleep(seconds)


def _slow_dns(scene: Scene) -> None:
    _resolver(scene, f"slow {OVER_LEASE_S}", scene.random.uniform(3, 6))


def _no_dns(scene: Scene) -> None:
    # Until a message has spent all its resends, where calls may outlast their leases.
    seconds = (1 + MAX_RESENDS) * LEASE_S + scene.random.uniform(2, 4)
    _resolver(scene, f"fail {DNS_FAILURE_S}", seconds)


def _gateway(scene: Scene) -> None:
    way, proxy = scene.random.choice([*ANSWERS, "away", "silent"]), scene.stage.to_gateway
    with ExitStack() as stack:
        if way == "silent":
            process = scene.stage.processes[scene.stage.boxes[0]]
            process.send_signal(signal.SIGSTOP)
            stack.callback(process.send_signal, signal.SIGCONT)
        else:
            stack.enter_context(proxy.answering(ANSWERS[way]) if way in ANSWERS else proxy.away())
        time.sleep(scene.random.uniform(1, LEASE_S / 2))


def _forget_gateway(scene: Scene) -> None:
    for proxy in scene.stage.to_gateways:
        proxy.forget()


def _forget_redis(scene: Scene) -> None:
    scene.stage.to_redis.forget()


def _disk(scene: Scene) -> None:
    first, then = scene.random.sample(
        [scene.stage.start_redis, lambda: scene.stage.fill_disk(None)], 2
    )
    with scene.stage.calls_caught():
        scene.stage.fill_disk(scene.random.choice(DISK_LIMITS))
        scene.stage.kill_redis()
    try:
        time.sleep(scene.random.uniform(2, 4))
    finally:
        first()
        time.sleep(scene.random.uniform(0, 2))
        then()


def _spool(scene: Scene) -> None:
    """Append lines while others append theirs, so that they stand between good ones."""
    with scene.stage.calls_caught():
        scene.stage.kill_redis()
    try:
        for kind in ("calls", "reports"):
            for path in _waiting(scene.stage, kind):
                with path.open("ab", buffering=0) as file:
                    file.write(b"\n".join(RUBBISH) + b"\n")
        time.sleep(scene.random.uniform(0.5, 1.5))
    finally:
        scene.stage.start_redis()


def _waiting(stage: Stage, kind: str) -> list[Path]:
    """Wait for files of a kind; where none come, name one that holds nothing."""
    deadline = time.monotonic() + SPOOLED_WITHIN_S
    while not (names := stage.spooled(kind)) and time.monotonic() < deadline:
        time.sleep(0.05)
    stage.spool.mkdir(parents=True, exist_ok=True)
    own = f"{kind}-{time.time_ns():020}-{secrets.token_hex(4)}.ready"
    return [stage.spool / name for name in names or [own]]


FAULTS: Final = {
    "kill": Fault("worker", _kill),
    "term": Fault("worker", _term),
    "pause": Fault("worker", _pause),
    "redis": Fault("redis", _redis),
    "freeze": Fault("redis", _freeze),
    "door": Fault("door", _kill),
    "slow-dns": Fault("resolver", _slow_dns),
    "no-dns": Fault("resolver", _no_dns),
    "gateway": Fault("gateway", _gateway),
    "forget-gateway": Fault("gateway's connections", _forget_gateway),
    "forget-redis": Fault("Redis' connections", _forget_redis),
    "disk": Fault("redis", _disk),
    "spool": Fault("redis", _spool),
}
