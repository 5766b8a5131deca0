"""What `delay()` returns: the message's id, in the form of Celery's results."""

from __future__ import annotations

from typing import Any, Final

from celery.result import AsyncResult

from smsq import ledgers
from smsq.app import app
from smsq.cancelling import Cancellation
from smsq.errors import NoResult

_KEPT: Final = {
    *("app", "as_list", "as_tuple", "backend", "id", "ignored", "parent", "task_id"),
    *("supports_native_join", "TimeoutError"),
    "revoke",
}
"""What needs no result backend, or is our own."""


class SendResult(AsyncResult):  # type: ignore[type-arg]
    """What `.delay()` returns; `id` is the message's id.

    Celery keeps no result of it, so whatever else its results have raises NoResult.
    """

    app = app
    duplicate_of: str | None = None
    """The id of the message that holds the `key`, where this one was not sent because of it."""

    def __init__(self, message_id: str, *_: Any, **__: Any) -> None:
        # Not Celery's own, which costs as much as checking the message.
        self.id = message_id

    def revoke(self, *_: Any, **__: Any) -> Cancellation | None:  # type: ignore[override]
        """Cancel the message as `smsq.cancel` does, whatever options Celery's own takes."""
        return ledgers.current().cancel(self.id)

    def __del__(self) -> None:
        """Do nothing: Celery's own asks the backend to forget what it never kept."""

    @property
    def backend(self) -> Any:
        """The app's, which keeps no results."""
        return self.app.backend

    @backend.setter
    def backend(self, _: Any) -> None:
        """Take what AsyncResult sets, which is the same."""


def _refusal(name: str) -> property:
    def refuse(_: SendResult) -> Any:
        raise NoResult(
            f"a SendResult has no {name}, as Celery keeps no results of send_sms: "
            "smsq.status(result.id) says what became of the message"
        )

    return property(refuse, doc="Raise NoResult.")


for _name in vars(AsyncResult).keys() - _KEPT:
    if not _name.startswith("_"):
        setattr(SendResult, _name, _refusal(_name))
