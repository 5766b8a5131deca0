"""What `delay()` returns: Celery's result, answered from the ledger instead of a result backend."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any, Final, Literal

import celery.exceptions
from celery.result import AsyncResult

from smsq import checks, deadline, ledgers
from smsq.app import app
from smsq.cancelling import Cancellation
from smsq.contract import SEND_SMS, StateName
from smsq.errors import LedgerUnavailable, NoResult, SmsqError
from smsq.steps import CallSteps
from smsq.times import MAX_TTL_S
from smsq.tracking import Status, key_holder

Until = Literal["final", "accepted"]

_REACHED: Final[dict[str, frozenset[StateName]]] = {
    "final": frozenset(("delivered",)),
    "accepted": frozenset(("accepted", "delivered", "unreported")),
}
"""With which states a wait has come to what it waited for; with another final one it failed."""
_FAILED: Final[frozenset[StateName]] = frozenset(("failed", "expired", "cancelled"))

READ_AT_LEAST_S: Final = 0.1
"""What a read is given even if less is left of a wait, so that a timeout of 0 asks once."""
FIRST_PAUSE_S: Final = 0.05
LONGEST_PAUSE_S: Final = 1.5


class NotDelivered(SmsqError):  # noqa: N818 - says what is so
    """A message has ended, and is not known to be delivered.

    Sending it again doubles nothing only if `status.certainly_not_sent`.
    """

    status: Status


class ResultTimeout(SmsqError, celery.exceptions.TimeoutError):  # noqa: N818 - Celery's is named so
    """A wait's time is over. The message goes its way as before: it is neither lost nor stopped."""

    status: Status | None = None
    """What the ledger said last; None where it did not answer, or knows nothing of the message."""


class SendResult(AsyncResult):  # type: ignore[type-arg]
    """What `.delay()` returns; `id` is the message's id.

    It asks the ledger anew each time, as a late report can change even a final state. A duplicate
    answers for the message that holds its key. What Celery's results have besides raises NoResult.
    All that asks raises LedgerUnavailable if Redis does not answer within SMSQ_ENQUEUE_TIMEOUT_S;
    `get` alone asks again until its own time is over.
    """

    app = app
    duplicate_of: str | None = None
    """The id of the message that holds the `key`, where this one was not sent because of it."""

    def __init__(self, message_id: str, *_: Any, **__: Any) -> None:
        # Not Celery's own, which costs as much as checking the message.
        self.id = message_id

    def revoke(self, *_: Any, **__: Any) -> Cancellation | None:  # type: ignore[override]
        """Cancel the message as `smsq.cancel` does, whatever options Celery's own takes."""
        return ledgers.do(ledgers.current().cancelling(self.id))

    async def arevoke(self) -> Cancellation | None:
        """Cancel the message as `smsq.acancel` does."""
        return await ledgers.ado(ledgers.current().cancelling(self.id))

    def __del__(self) -> None:
        """Keep Celery's own from running: it asks the backend to forget what it never kept."""

    def __copy__(self) -> SendResult:
        """Return the same result; Celery's own would leave out `duplicate_of`."""
        copied = SendResult(self.id)
        copied.__dict__ |= self.__dict__
        return copied

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the id alone; Celery's own adds the backend."""
        return SendResult, (self.id,), dict(self.__dict__)

    @property
    def backend(self) -> Any:
        """The app's, which keeps no results."""
        return self.app.backend

    @backend.setter
    def backend(self, _: Any) -> None:
        """Take what AsyncResult sets, which is the same."""

    @property
    def result(self) -> Status | None:
        """All that is known of the message; None where nothing is, or nothing any more."""
        return ledgers.do(self._asking())

    @property
    def info(self) -> Status | None:
        """The same; an assignment would leave it the type that Celery's has."""
        return self.result

    @property
    def state(self) -> StateName | None:  # type: ignore[override]
        """The message's state; None where nothing is known of it.

        A later release may have written a state that StateName has not.
        """
        status = self.result
        return None if status is None else status.state

    @property
    def status(self) -> StateName | None:  # type: ignore[override]
        """The same."""
        return self.state

    @property
    def date_done(self) -> datetime | None:
        """When the message ended, in UTC; None where it has not, or nothing is known of it."""
        status = self.result
        return None if status is None else status.finished_at

    def ready(self) -> bool:
        """Return whether the state is final; False where nothing is known of the message."""
        status = self.result
        return status is not None and status.final

    def successful(self) -> bool:
        """Return whether the message is delivered."""
        return self.state == "delivered"

    def failed(self) -> bool:
        """Return whether the message has ended as failed, expired or cancelled.

        Of `unreported` nobody knows, so it is neither `failed` nor `successful`.
        """
        return self.state in _FAILED

    def get(  # type: ignore[override]
        self, timeout: float, propagate: bool = True, *, until: Until = "final"
    ) -> Status:
        """Wait until the message is delivered, and return its status.

        Args:
            timeout: Seconds to wait at most, from 0, which asks once, to 366 days. A report can
                take days, so there is no default. The wait can take 0.1 s more.
            propagate: Whether another end raises NotDelivered; with False its status is returned.
            until: "final" waits for the delivery report; "accepted" for the gateway to take the
                message, which is mostly a second, and leaves open whether it arrives.

        The ledger is asked after 50 ms, then less and less often, down to every 1.5 s. Where it
        does not answer it is asked again.

        Raises NotDelivered if the message has ended otherwise, `unreported` with until="final"
        included. Raises ResultTimeout, Celery's TimeoutError, if it has not ended in time, and
        ValueError or TypeError for a bad argument.
        """
        return ledgers.do(self._waiting(timeout, until, propagate=propagate))

    async def aget(
        self,
        timeout: float,  # noqa: ASYNC109 - Celery's name, and more than a time to cancel after
        propagate: bool = True,
        *,
        until: Until = "final",
    ) -> Status:
        """Wait as `get` does; the event loop goes on meanwhile."""
        return await ledgers.ado(self._waiting(timeout, until, propagate=propagate))

    def wait(  # type: ignore[override]
        self, timeout: float, propagate: bool = True, *, until: Until = "final"
    ) -> Status:
        """Wait as `get` does: Celery's old name for it."""
        return self.get(timeout, propagate, until=until)

    def forget(self) -> None:
        """Return at once: there is no result but the ledger's, which ends with SMSQ_RETENTION_S."""

    name = SEND_SMS
    traceback = None

    @property
    def children(self) -> list[Any]:
        """None: a message starts no tasks."""
        return []

    def _asking(self) -> CallSteps[Status | None]:
        read, own = ledgers.current().reading, None
        if self.duplicate_of is None:
            own = yield from read(self.id)
            if own is None or own.state != "duplicate":
                return own
            self.duplicate_of = key_holder(own.reason) or None
        # The holder is forgotten before its duplicates.
        holder = (yield from read(self.duplicate_of)) if self.duplicate_of else None
        return holder or own or (yield from read(self.id))

    def _waiting(self, timeout: float, until: Until, *, propagate: bool) -> CallSteps[Status]:
        _check(timeout, until)
        ends_at = time.monotonic() + timeout
        pause, paused = FIRST_PAUSE_S, 0.0
        seen: Status | None = None
        while True:
            failure: LedgerUnavailable | None = None
            try:
                with deadline.within(max(READ_AT_LEAST_S, ends_at - time.monotonic())):
                    seen = yield from self._asking()
            except LedgerUnavailable as error:
                failure = error
            if failure is None and seen is not None and _has_come(seen, until, propagate=propagate):
                return seen
            # A test of the backend's may have stopped the clock, as freezegun does.
            left = min(ends_at - time.monotonic(), timeout - paused)
            if left <= 0:
                raise _timeout(self.id, f"{until} within {timeout:g} s", seen, failure) from failure
            yield min(pause, left)
            paused += pause
            pause = min(pause * 1.5, LONGEST_PAUSE_S)


def _timeout(
    message_id: str, what: str, seen: Status | None, failure: LedgerUnavailable | None
) -> ResultTimeout:
    told = "nothing is known of it" if seen is None else f"it is {seen.state}"
    if failure is not None:
        told = f"{failure}"
    error = ResultTimeout(f"message {message_id} was not {what}: {told}")
    error.status = seen
    return error


def _check(timeout: object, until: object) -> None:
    rule = (
        f"timeout must be a number of seconds, from 0 to {MAX_TTL_S}, as a report may take days "
        "or never come"
    )
    if isinstance(timeout, bool) or not isinstance(timeout, int | float):
        raise TypeError(f"{rule}; got {checks.kind_of(timeout)}")
    if not 0 <= timeout <= MAX_TTL_S:
        raise ValueError(f"{rule}; got {checks.rounded(timeout)}")
    if until not in ("final", "accepted"):
        raise ValueError(f'until must be "final" or "accepted"; got {checks.masked(repr(until))}')


def _has_come(status: Status, until: Until, *, propagate: bool) -> bool:
    """Return whether a wait is over. Raises NotDelivered if it is in vain."""
    if status.state in _REACHED[until]:
        return True
    if status.final and propagate:
        how = f"{status.state} ({status.reason})" if status.reason else status.state
        doubt = "certainly was not" if status.certainly_not_sent else "may have been"
        error = NotDelivered(f"message {status.id} ended as {how}; it {doubt} sent")
        error.status = status
        raise error
    return status.final


_INSTEAD: Final = dict.fromkeys(
    ("on_ready", "then"), "nothing tells the producer of an end; notify= calls a task of yours"
)
"""What to say of a name besides that there is no such result."""


def _refusal(name: str) -> property:
    why = _INSTEAD.get(name, "Celery keeps no results of send_sms")

    def refuse(_: SendResult) -> Any:
        raise NoResult(
            f"a SendResult has no {name}, as {why}: smsq.status(result.id) and result.get(timeout) "
            "say what became of the message"
        )

    return property(refuse, doc="Raise NoResult.")


_KEPT: Final = {
    *("app", "as_list", "as_tuple", "id", "ignored", "parent", "task_id"),
    *("supports_native_join", "TimeoutError"),
}
"""What of Celery's own needs no result backend."""

for _name in {*vars(AsyncResult), "on_ready"} - vars(SendResult).keys() - _KEPT:
    if not _name.startswith("_"):
        setattr(SendResult, _name, _refusal(_name))
