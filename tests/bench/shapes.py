"""How a backlog may be queued: as single messages, in batches, or both by turns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import smsq
from bench.figures import Report
from bench.place import Place
from bench.plan import Plan

SHAPES = ("singles", "batches", "both")
BATCH = 100
TEMPLATE, CODE = "SMS_1001", "482913"


def split(phones: Sequence[str], shape: str) -> Iterator[tuple[bool, Sequence[str]]]:
    """Cut numbers into slices, each with whether it is to be a batch."""
    for n in range(0, len(phones), BATCH):
        is_batch = shape == "batches" or (shape == "both" and n // BATCH % 2 == 0)
        yield is_batch, phones[n : n + BATCH]


def enqueue(count: int, lane: str, shape: str) -> dict[str, str]:
    """Enqueue messages by send_many, `delay` or both; give the ids by number."""
    found: dict[str, str] = {}
    for is_batch, phones in split([f"139{n:08}" for n in range(count)], shape):
        ids: list[str] = []
        if is_batch:
            rows = ({"phone": one, "template": TEMPLATE, "code": CODE} for one in phones)
            smsq.send_many(rows, lane=lane, batch_size=BATCH, on_batch=ids.extend)
        else:
            ids += [smsq.send_sms.delay(one, TEMPLATE, CODE, lane=lane).id for one in phones]
        found.update(zip(phones, ids, strict=True))
    return found


def each(place: Place, plan: Plan, report: Report, one: Callable[[str], None]) -> Report:
    """Try each shape; what one cannot bear does not keep the others from being tried."""
    for shape in plan.shapes:
        try:
            one(shape)
        except AssertionError as error:
            report.promise(False, f"{shape}: {error}")
        finally:
            place.stop_workers()
    return report
