"""The producer's side of smsq: what a backend imports.

`send_sms.delay` sends one message, `send_many` many, `status` says what became of one, `cancel`
takes it back, and `configure` takes settings from a program. `smsq.verify` is for verification
codes, `smsq.testing` for a backend's tests, `"smsq.contrib.django"` for Django's INSTALLED_APPS.

>>> from smsq import send_sms
>>> result = send_sms.delay("13800138000", "SMS_1001", "482913", lane="otp", key="login-7781")
>>> result.state
'queued'
"""

from importlib import import_module as _import_module
from typing import TYPE_CHECKING
from typing import Any as _Any

from smsq import ledgers as _ledgers
from smsq.cancelling import Cancellation
from smsq.configuring import configure
from smsq.contract import LaneName, OnAmbiguousName, Row, StateName
from smsq.errors import (
    CampaignCancelled,
    InvalidMessage,
    KeyConflict,
    LedgerFull,
    LedgerUnavailable,
    NoResult,
    SettingsError,
    SmsqError,
)
from smsq.ids import parse_id as _parse_id
from smsq.many import Duplicate, Sent, asend_many, send_many
from smsq.results import NotDelivered, ResultTimeout, SendResult
from smsq.tasks import send_sms
from smsq.tracking import Attempt, Status

if TYPE_CHECKING:
    from smsq import testing, verify

__all__ = [
    "Attempt",
    "CampaignCancelled",
    "Cancellation",
    "Duplicate",
    "InvalidMessage",
    "KeyConflict",
    "LaneName",
    "LedgerFull",
    "LedgerUnavailable",
    "NoResult",
    "NotDelivered",
    "OnAmbiguousName",
    "ResultTimeout",
    "Row",
    "SendResult",
    "Sent",
    "SettingsError",
    "SmsqError",
    "StateName",
    "Status",
    "acancel",
    "asend_many",
    "astatus",
    "cancel",
    "configure",
    "send_many",
    "send_sms",
    "status",
    "testing",
    "verify",
]


def __getattr__(name: str) -> _Any:
    """Import smsq.testing or smsq.verify when they are first used: others pay nothing for them."""
    if name in {"testing", "verify"}:
        return _import_module(f"smsq.{name}")
    raise AttributeError(f"module 'smsq' has no attribute {name!r}")


def __dir__() -> list[str]:
    """Name them for completion, too."""
    return sorted({*globals(), *__all__})


def status(message_id: str) -> Status | None:
    """Return what is known of a message; None where nothing is, as for a str that cannot be an id.

    Raises LedgerUnavailable if Redis does not answer within SMSQ_ENQUEUE_TIMEOUT_S, and
    InvalidMessage for anything but a str, such as the result of `delay` instead of its `id`.
    """
    if not isinstance(message_id, str):
        _parse_id(message_id)  # type: ignore[unreachable]
    return _ledgers.do(_ledgers.current().reading(message_id))


async def astatus(message_id: str) -> Status | None:
    """Return what `status` does; the event loop goes on meanwhile."""
    if not isinstance(message_id, str):
        _parse_id(message_id)  # type: ignore[unreachable]
    return await _ledgers.ado(_ledgers.current().reading(message_id))


def cancel(message_id: str) -> Cancellation | None:
    """Cancel a message as far as that is possible; None where nothing is known of it.

    Once the answer is "cancelled" the message certainly was not sent and will not be. With
    "under_way" the attempt that is being made decides, with "too_late" the message is what its
    state says; neither is sent again. Raises LedgerUnavailable, then it may or may not be
    cancelled: ask again. And InvalidMessage for what cannot be an id.
    """
    return _ledgers.do(_ledgers.current().cancelling(_parse_id(message_id)))


async def acancel(message_id: str) -> Cancellation | None:
    """Cancel as `cancel` does, without blocking the event loop."""
    return await _ledgers.ado(_ledgers.current().cancelling(_parse_id(message_id)))
