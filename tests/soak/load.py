"""What the soak sends: half of the messages one by one, and at the same time half in batches."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from celery.utils import uuid

import smsq
from smsq.errors import LedgerUnavailable
from soak.plan import ENDINGS, OTP_TTL_S, Plan

BATCH = 20
MAX_RAISED = 1000


def patiently(call: Callable[[], Any]) -> Any:
    """Call again while Redis is away, as a careful backend does."""
    while True:
        try:
            return call()
        except LedgerUnavailable:
            time.sleep(0.1)


@dataclass
class Load:
    """Enqueues messages as a careful backend does, which repeats what raised."""

    plan: Plan
    sent: dict[str, str] = field(default_factory=dict)
    """Numbers by the ids that were acknowledged."""
    raised: Counter[str] = field(default_factory=Counter)
    """What nobody was told to expect."""
    slowest_s: float = 0.0
    """The longest that one call took, whatever came of it."""

    def run(self) -> None:
        """Enqueue all messages over the planned time."""
        with ThreadPoolExecutor() as pool:
            for done in [pool.submit(self._singles), pool.submit(self._batches)]:
                done.result()

    def _singles(self) -> None:
        for row in self._rows(0):
            message_id = uuid()
            self._insist(lambda i=message_id, r=row: smsq.send_sms.apply_async((), r, task_id=i))
            self.sent[message_id] = row["phone"]

    def _batches(self) -> None:
        rows = self._rows(1)
        while batch := list(islice(rows, BATCH)):
            ids: list[str] = []

            def send(batch: list[dict[str, Any]] = batch, ids: list[str] = ids) -> None:
                ids.clear()
                smsq.send_many(batch, batch_size=BATCH, on_batch=ids.extend)

            # Its keys keep a batch that is repeated from being sent twice.
            self._insist(send)
            self.sent |= zip(ids, (row["phone"] for row in batch), strict=True)

    def _rows(self, part: int) -> Iterator[dict[str, Any]]:
        """Yield every other message, each when its time has come."""
        choose, began = random.Random(self.plan.seed + 1 + part), time.monotonic()
        for n in range(part, self.plan.messages, 2):
            lane = choose.choice(["otp", "notice", "notice", "bulk", "bulk"])
            row = {
                "phone": f"1{3 + n // 100_000}{n % 100_000:05}{choose.choice(ENDINGS)}",
                "template": "SMS_1001",
                "code": "482913",
                "lane": lane,
                "on_ambiguous": self.plan.policy,
                "key": f"soak-{n}" if part else None,
                "ttl_s": OTP_TTL_S if lane == "otp" else None,
            }
            due = began + self.plan.seconds * n / self.plan.messages
            time.sleep(max(0, due - time.monotonic()))
            yield row

    def _insist(self, call: Callable[[], Any]) -> None:
        while True:
            try:
                return patiently(lambda: self._timed(call))
            except Exception as error:
                self.raised[f"{type(error).__name__}: {error}"] += 1
                if self.raised.total() >= MAX_RAISED:
                    raise
                time.sleep(0.1)

    def _timed(self, call: Callable[[], Any]) -> None:
        began = time.monotonic()
        try:
            call()
        finally:
            self.slowest_s = max(self.slowest_s, time.monotonic() - began)
