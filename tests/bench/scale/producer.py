"""A backend that asks for an otp now and then, as a process of its own.

    python -m bench.scale.producer EVERY_S

A line on stdin makes the next otp another one: "ahead" schedules it 2 s ahead, "refused" sends it
to a number that the gateway refuses once. The end of stdin ends it. Each otp is a line on stdout.
"""

from __future__ import annotations

import json
import sys
import time
from itertools import count
from queue import Empty, SimpleQueue
from threading import Thread

import smsq
from bench.gateway import REFUSED_ONCE

AHEAD_S = 2.0
PLAIN = "1380"


def main() -> None:
    """Send until told to stop; a beat that is missed is left out."""
    every_s = float(sys.argv[1])
    asked: SimpleQueue[str | None] = SimpleQueue()
    Thread(target=_listen, args=(asked,), daemon=True).start()
    began, due = time.monotonic(), 0
    for n in count():
        try:
            kind = asked.get(timeout=max(0.0, began + due * every_s - time.monotonic()))
        except Empty:
            kind = ""
        if kind is None:
            return
        _send(n, kind)
        due = int((time.monotonic() - began) / every_s) + 1


def _listen(asked: SimpleQueue[str | None]) -> None:
    for line in sys.stdin:
        asked.put(line.strip())
    asked.put(None)


def _send(n: int, kind: str) -> None:
    phone = f"{REFUSED_ONCE if kind == 'refused' else PLAIN}{n:07}"
    due = time.time() + AHEAD_S if kind == "ahead" else None
    before, error = time.monotonic(), ""
    try:
        smsq.send_sms.delay(phone, "SMS_OTP", "482913", lane="otp", send_at=due)
    except smsq.LedgerUnavailable as refused:
        error = str(refused)
    line = (phone, kind, before, time.monotonic() - before, due, error)
    sys.stdout.write(f"{json.dumps(line)}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
