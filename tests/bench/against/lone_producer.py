"""A backend that fills the lane of bulk, or does not, and then asks for an otp now and then.

    python -m bench.against.lone_producer BULK OTPS EVERY_S SEED

It says "filled", and begins at a line on stdin; then it tells each otp in a line: its number, when
delay() was called and how long that took. The first are to load and to connect, and do not count.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Iterator

import smsq
from bench.peers.vendor import CODE, TEMPLATE, phones

FIRST_OTP = 90_000_000
WARM_UP = 5


def main() -> None:
    """Fill, wait, send."""
    bulk, otps, every_s, seed = sys.argv[1:]
    _fill(int(bulk))
    _tell("filled")
    numbers = iter(phones(FIRST_OTP, WARM_UP + int(otps)))
    beats = _beats(float(every_s), int(seed))
    for count in (WARM_UP, int(otps)):
        sys.stdin.readline()
        due = time.monotonic()
        for _, phone in zip(range(count), numbers, strict=False):
            time.sleep(max(0.0, due - time.monotonic()))
            before = time.monotonic()
            smsq.send_sms.delay(phone, TEMPLATE, CODE, lane="otp", key=f"login-{phone}")
            _tell([phone, before, time.monotonic() - before])
            due += next(beats)
        _tell("sent")


def _fill(count: int) -> None:
    """Queue half of them one by one, and half in batches."""
    numbers = phones(0, count)
    for phone in numbers[::2]:
        smsq.send_sms.delay(phone, TEMPLATE, CODE, lane="bulk")
    rows = ({"phone": phone, "template": TEMPLATE, "code": CODE} for phone in numbers[1::2])
    smsq.send_many(rows, lane="bulk")


def _beats(every_s: float, seed: int) -> Iterator[float]:
    """Give the times between otps; not even, so that no worker's rhythm meets all of them."""
    chance = random.Random(seed)
    while True:
        yield every_s * chance.uniform(0.5, 1.5)


def _tell(what: object) -> None:
    sys.stdout.write(f"{json.dumps(what)}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
