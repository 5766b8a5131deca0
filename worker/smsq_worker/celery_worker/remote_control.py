"""Celery's remote control (`celery inspect`, `celery control`, Flower) where ours differs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import celery.worker.control
import celery.worker.state
from kombu.utils.functional import maybe_list

from smsq import audit, deadline
from smsq.cancelling import AT_ONCE, cancel
from smsq.contract import NOTIFY_OUTCOME, RECONCILE_REPORT, SEND_BATCH, SEND_SMS
from smsq.errors import SmsqError
from smsq.ids import is_id
from smsq_worker.celery_worker.options import INSTEAD

FIXED: Final = f"the number of threads stays as it is while a worker runs; {INSTEAD}"
ONE_RATE: Final = (
    "messages have one rate over all workers: `smsq rate N`; a limit of Celery's would let otps "
    "wait behind bulk"
)
ENDS_ITSELF: Final = (
    "an attempt that is under way cannot be terminated: it ends by itself, in "
    "SMSQ_CONNECT_TIMEOUT_S + SMSQ_READ_TIMEOUT_S at most, and is the last"
)
OWN_LIMITS: Final = (
    "tasks of smsq have limits of their own: SMSQ_CONNECT_TIMEOUT_S and SMSQ_READ_TIMEOUT_S for an "
    "attempt, the ttl for a message"
)
NOT_IN_LEDGER: Final = (
    "unknown to the ledger; a message that others wrote into the queue is dropped by the workers "
    "that heard this, until they restart"
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
    panel.data |= {"revoke": _revoke, "terminate": _terminate}
    panel.data |= {"rate_limit": _rate_limit, "time_limit": _time_limit}
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


def _time_limit(panel: Any, task_name: Any = None, **options: Any) -> Any:
    if task_name in {SEND_SMS, SEND_BATCH, RECONCILE_REPORT, NOTIFY_OUTCOME}:
        return control.nok(OWN_LIMITS)
    return control.time_limit(panel, task_name, **options)


def _revoke(panel: Any, task_id: Any, terminate: bool = False, **_: Any) -> Any:
    """Cancel messages; all workers hear this, and the first does it.

    Celery's own would have each drop the wake-ups that it gets, and the messages wait for their
    timers: only messages that are not in the ledger are left to it.
    """
    ids = [str(one) for one in maybe_list(task_id) or []]
    try:
        found = _cancelled(panel.app, [one for one in ids if is_id(one)])
    except SmsqError as error:
        return control.nok(str(error))
    if bare := [one for one in ids if found.get(one) is None]:
        control.revoke(panel, bare)
    answers = {one: found.get(one) or NOT_IN_LEDGER for one in ids}
    if terminate:
        return control.nok("; ".join([ENDS_ITSELF, *(f"{one}: {answers[one]}" for one in ids)]))
    return control.ok(answers)


def _cancelled(app: Any, ids: list[str]) -> dict[str, str]:
    """Cancel messages, and return in words what became of each that the ledger knows."""
    words = {}
    with deadline.within(app.settings.enqueue_timeout_s):
        for start in range(0, len(ids), AT_ONCE):
            some = ids[start : start + AT_ONCE]
            act = audit.act("control revoke", if_changed=True, ids=" ".join(some))
            for one in cancel(app.client, app.settings, some, act):
                if one:
                    words[one.id] = one.words
    return words


def _terminate(panel: Any, signal: Any, task_id: Any, **_: Any) -> Any:  # noqa: ARG001
    return _revoke(panel, task_id, terminate=True)
