"""What a host is told that expects its `task_always_eager` to concern smsq."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Final

from celery import _state

from smsq.errors import LedgerUnavailable

NOT_EAGER: Final = (
    "task_always_eager does not concern smsq, which has an app of its own: in tests, let "
    "smsq.testing.outbox() take the place of Redis, as docs/guides/testing.md shows"
)


def hint_if_eager(error: LedgerUnavailable) -> None:
    """Raise it with a hint where the host runs its tasks in place, and may expect it of ours."""
    if _is_eager():
        raise type(error)(f"{error}; {NOT_EAGER}") from error


def _is_eager() -> bool:
    """Return whether the host's app runs its tasks in place, if there is one."""
    # Not celery.current_app, which would make one.
    state: Any = _state
    host = getattr(state._tls, "current_app", None) or state.default_app  # noqa: SLF001
    with suppress(Exception):  # its settings may be anything
        return host is not None and bool(host.conf.task_always_eager)
    return False
