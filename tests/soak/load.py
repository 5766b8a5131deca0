"""What the soak sends: half of the messages one by one, and at the same time half in batches.

Batches belong to campaigns. All the while an operator pauses, slows, resumes and cancels those, and
cancels single messages.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from threading import Event
from typing import Any

from celery.utils import uuid

import smsq
from smsq.connection import connect
from smsq.errors import CampaignCancelled, LedgerUnavailable
from smsq_worker.config.settings import Settings
from smsq_worker.ledger.campaigns import Campaigns
from soak.plan import ENDINGS, OTP_TTL_S, WELL, Plan

BATCH = 20
CAMPAIGN = 60
"""Rows of one campaign."""
MAX_RAISED = 1000
DEED_EVERY_S = 0.5
DEEDS = ("pause", "pause", "resume", "rate", "cancel", "one", "one")


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
    campaigns: dict[str, str] = field(default_factory=dict)
    """What became of each, by name: "" or cancelled."""
    cancelled: set[str] = field(default_factory=set)
    """Of these messages "cancelled" was answered."""

    def run(self) -> None:
        """Enqueue all messages over the planned time."""
        over = Event()
        with ThreadPoolExecutor() as pool:
            operator = pool.submit(self._operate, over) if self.plan.campaigns else None
            try:
                for done in [pool.submit(self._singles), pool.submit(self._batches)]:
                    done.result()
            finally:
                over.set()
            if operator:
                operator.result()

    def _operate(self, over: Event) -> None:
        """Do at random what operators do, and let go on at the end what is paused."""
        choose, settings = random.Random(self.plan.seed), Settings.load(os.environ)
        campaigns = Campaigns(connect(settings.redis_url), settings.rules)
        while not over.wait(DEED_EVERY_S):
            deed = choose.choice(DEEDS)
            if deed == "one" and self.sent:
                self._cancel_one(choose.choice([*self.sent][-2 * BATCH :]))
            elif deed != "one" and self.campaigns:
                name = choose.choice([*self.campaigns][-2:])
                rate = choose.choice([0.1, 5, 10_000]) if deed == "rate" else None
                self._do(campaigns, deed, name, rate)
        for name in self.campaigns:
            for deed in ("resume", "rate"):
                self._do(campaigns, deed, name, None)

    def _do(self, campaigns: Campaigns, deed: Any, name: str, rate: float | None) -> None:
        patiently(lambda: campaigns.do(deed, name, rate=rate))
        if deed == "cancel":
            self.campaigns[name] = "cancelled"

    def _cancel_one(self, message_id: str) -> None:
        answer = patiently(lambda: smsq.cancel(message_id))
        if answer and answer.answer == "cancelled":
            self.cancelled.add(message_id)

    def _singles(self) -> None:
        for row in self._rows(0):
            message_id = uuid()
            self._insist(lambda i=message_id, r=row: smsq.send_sms.apply_async((), r, task_id=i))
            self.sent[message_id] = row["phone"]

    def _batches(self) -> None:
        rows, count = self._rows(1), 0
        while batch := list(islice(rows, BATCH)):
            ids: list[str] = []
            name = f"campaign {count // CAMPAIGN}" if self.plan.campaigns else None
            count += len(batch)

            def send(
                batch: list[dict[str, Any]] = batch, ids: list[str] = ids, name: str | None = name
            ) -> None:
                ids.clear()
                # It takes no more: an earlier try may have been entered, and was cancelled with it.
                with suppress(CampaignCancelled):
                    smsq.send_many(batch, batch_size=BATCH, on_batch=ids.extend, campaign=name)

            # Its keys keep a batch that is repeated from being sent twice.
            self._insist(send)
            if name:
                self.campaigns.setdefault(name, "")
            if ids:
                self.sent |= zip(ids, (row["phone"] for row in batch), strict=True)

    def _rows(self, part: int) -> Iterator[dict[str, Any]]:
        """Yield every other message, each when its time has come."""
        choose, began = random.Random(self.plan.seed + 1 + part), time.monotonic()
        endings = [WELL] if self.plan.numbers == "well" else ENDINGS
        for n in range(part, self.plan.messages, 2):
            lane = choose.choice(["otp", "notice", "notice", "bulk", "bulk"])
            row = {
                "phone": f"1{3 + n // 100_000}{n % 100_000:05}{choose.choice(endings)}",
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
