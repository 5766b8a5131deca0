"""The otps of the producer's process, and when they arrived."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from tempfile import TemporaryFile
from typing import IO, Any, NamedTuple

from bench.figures import Arrival
from bench.place import Place

EVERY_S = 0.25
GRACE_S = 10.0
"""So long the last otps are waited for."""


class Otp(NamedTuple):
    """One that was asked for, as the producer wrote it down."""

    phone: str
    kind: str
    before: float
    """On the monotonic clock, before the call of delay()."""
    took: float
    """What delay() took."""
    due: float | None
    """Unix seconds."""
    error: str


class Otps:
    """A producer under way."""

    def __init__(
        self, place: Place, process: subprocess.Popen[bytes], told: IO[bytes] | None = None
    ) -> None:
        """`told` is where the producer writes down what it asked for."""
        self._place = place
        self._process = process
        self._told = told
        self.sent: list[Otp] = []
        self.first: dict[str, Arrival] = {}
        self.last: dict[str, Arrival] = {}

    def ask(self, kind: str) -> None:
        """Let the next otp be of a kind."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{kind}\n".encode())
        self._process.stdin.flush()

    def has_asked(self, since: float) -> bool:
        """Tell whether the producer, which goes on, has asked for a plain one since."""
        assert self._told is not None
        told = self._told.fileno()
        lines = os.pread(told, os.fstat(told).st_size, 0).split(b"\n")
        # Behind the last line's end there is nothing, or half of the next.
        self.sent = [Otp(*json.loads(line)) for line in lines[:-1]]
        return bool(self.waits(since))

    def end(self) -> None:
        """End the producer, wait a little for its last otps, and read what came."""
        assert self._told is not None
        self._process.communicate(timeout=60)
        self._told.seek(0)
        self.sent = [Otp(*json.loads(line)) for line in self._told]
        asked = {one.phone for one in self.sent if not one.error}
        until = time.monotonic() + GRACE_S
        while not asked <= {call.phone for call in self._read() if call.mode == "ok"}:
            if time.monotonic() > until:
                break
            time.sleep(0.2)

    def waits(self, since: float = 0.0, before: float = math.inf) -> list[float]:
        """Give how long after delay() plain ones were called; infinite where they were not."""
        return [
            self._arrived(self.first, one) - one.before
            for one in self.sent
            if not one.kind and not one.error and since <= one.before < before
        ]

    def slowest(self, since: float, before: float) -> list[Arrival]:
        """Give the calls of the three plain ones that were called latest."""
        found = [
            (self.first[one.phone].at - one.before, self.first[one.phone])
            for one in self.sent
            if one.phone in self.first and not one.kind and since <= one.before < before
        ]
        return [call for _, call in sorted(found, reverse=True)[:3]]

    def ahead(self) -> list[float]:
        """Give how late scheduled ones were called."""
        late = []
        for one in self.sent:
            if one.due is not None:
                call = self.first.get(one.phone)
                late.append(call.wall - one.due if call else math.inf)
        return late

    def again(self) -> list[float]:
        """Give how long after the refusal refused ones were called again."""
        return [
            self._arrived(self.last, one) - self._arrived(self.first, one)
            if self.last.get(one.phone) != self.first.get(one.phone)
            else math.inf
            for one in self.sent
            if one.kind == "refused"
        ]

    def refused(self) -> int:
        """Count those that delay() did not take."""
        return sum(bool(one.error) for one in self.sent)

    def missed(self) -> int:
        """Count the beats that the producer left out, because it was late itself."""
        if not self.sent:
            return 0
        beats = (self.sent[-1].before - self.sent[0].before) / EVERY_S
        return max(0, round(beats) + 1 - len(self.sent))

    def _read(self) -> Sequence[Arrival]:
        calls = self._place.gateway.calls()
        self.last = {call.phone: call for call in calls}
        self.first = {call.phone: call for call in reversed(calls)}
        return calls

    @staticmethod
    def _arrived(calls: dict[str, Arrival], one: Otp) -> float:
        return calls[one.phone].at if one.phone in calls else math.inf


@contextmanager
def producing(place: Place) -> Iterator[Otps]:
    """Let a producer send; whoever waits for its last otps calls `end`."""
    command: list[Any] = [sys.executable, "-m", "bench.scale.producer", str(EVERY_S)]
    # A pipe that nobody reads is full after three minutes.
    with TemporaryFile() as told:
        process = subprocess.Popen(
            command,
            env=place.environ,
            stdin=subprocess.PIPE,
            stdout=told,
            start_new_session=True,
        )
        try:
            yield Otps(place, process, told)
        finally:
            process.kill()
            process.communicate()
