"""Django's transactions, for `send_sms.delay_on_commit`."""

from __future__ import annotations

from collections.abc import Callable


def after_commit(send: Callable[[], object], using: str | None) -> None:
    """Call `send` after the transaction of a database commits, or at once if none is open.

    Raises ImportError where there is no Django.
    """
    try:
        from django.db import transaction
    except ImportError as error:
        if (error.name or "").partition(".")[0] != "django":
            raise
        raise ImportError(
            "send_sms.delay_on_commit needs Django, which is not installed; without it, call "
            "send_sms.delay(...) after the commit",
            name="django",
        ) from None
    transaction.on_commit(send, using=using)
