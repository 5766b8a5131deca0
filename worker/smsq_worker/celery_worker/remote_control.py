"""Celery's remote control (`celery inspect`, `celery control`, Flower) where ours differs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import celery.worker.control
import celery.worker.state

from smsq.contract import SEND_BATCH, SEND_SMS
from smsq_worker.celery_worker.options import INSTEAD

FIXED: Final = f"the number of threads stays as it is while a worker runs; {INSTEAD}"
ONE_RATE: Final = (
    "messages have one rate over all workers: `smsq rate N`; a limit of Celery's would let otps "
    "wait behind bulk"
)
ENDS_ITSELF: Final = (
    "no wake-up of these is taken any more, but an attempt that is under way cannot be terminated: "
    "it ends by itself, in SMSQ_CONNECT_TIMEOUT_S + SMSQ_READ_TIMEOUT_S at most"
)


control: Any = celery.worker.control
state: Any = celery.worker.state


class SteadySet(set[Any]):
    """A set that can be looked through while other threads change it."""

    def __iter__(self) -> Iterator[Any]:
        # list() of a set's own iterator runs no Python code, so no other thread comes in between.
        return iter(list(super().__iter__()))


def install() -> None:
    """Refuse what cannot be had, and make the others safe beside the threads of the sender."""
    panel = control.Panel
    panel.data |= dict.fromkeys(("pool_grow", "pool_shrink", "pool_restart", "autoscale"), _refuse)
    panel.data |= {"revoke": _revoke, "terminate": _terminate, "rate_limit": _rate_limit}
    # Otherwise `inspect active` fails now and then, and so would a worker whose connection is lost:
    # Celery looks through these sets in its own thread only.
    for requests in (state.active_requests, state.reserved_requests):
        requests.data = SteadySet(requests.data)


def _refuse(*_: Any, **__: Any) -> Any:
    return control.nok(FIXED)


def _rate_limit(panel: Any, task_name: Any, rate_limit: Any, **options: Any) -> Any:
    if task_name in {SEND_SMS, SEND_BATCH}:
        return control.nok(ONE_RATE)
    return control.rate_limit(panel, task_name, rate_limit, **options)


def _revoke(panel: Any, task_id: Any, terminate: bool = False, **options: Any) -> Any:
    options.pop("signal", None)
    answer = control.revoke(panel, task_id, **options)
    return control.nok(ENDS_ITSELF) if terminate else answer


def _terminate(panel: Any, signal: Any, task_id: Any, **_: Any) -> Any:  # noqa: ARG001
    return _revoke(panel, task_id, terminate=True)
