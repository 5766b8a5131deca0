"""What the bench uses of smsq, by the names of this release and of those up to 0.2.0."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from smsq import cipher
from smsq_worker.ledger import Ledger, Report

try:
    from smsq.ledger_writer import LedgerWriter
    from smsq_worker.config.settings import Settings
    from smsq_worker.devstack import services
    from smsq_worker.devstack.processes import Service
    from smsq_worker.domain.states import Outcome
    from smsq_worker.infra.ports import free_port
    from smsq_worker.ledger import Admitted, AttemptResult
    from smsq_worker.ledger.admin import ACCOUNT, Control

    API_BIND = "SMSQ_API_BIND"
except ImportError:
    from smsq.enqueue import Entrance as LedgerWriter
    from smsq_worker.ledger import CameTo as AttemptResult
    from smsq_worker.ledger import Go as Admitted
    from smsq_worker.ledger.control import ACCOUNT, Control
    from smsq_worker.local import services
    from smsq_worker.local.ports import free_port
    from smsq_worker.local.stack import Service
    from smsq_worker.settings import Settings
    from smsq_worker.states import Outcome

    API_BIND = "SMSQ_DOOR_BIND"

__all__ = [
    "ACCOUNT",
    "API_BIND",
    "Admitted",
    "AttemptResult",
    "Control",
    "Ledger",
    "LedgerWriter",
    "Outcome",
    "Report",
    "Service",
    "Settings",
    "api_service",
    "enter_many",
    "free_port",
    "ledger_writer",
    "opener",
    "services",
]

opener: Any = getattr(cipher, "Opener", None) or cipher.opener
api_service = getattr(services, "api", None) or services.door
"""Named door up to 0.2.0."""


def enter_many(writer: Any, messages: Sequence[tuple[str, Any]]) -> list[str]:
    """Write messages in one act; give the state of each."""
    if hasattr(writer, "enter_many"):  # up to 0.2.0, where it returned the states alone
        return [getattr(one, "state", one) for one in writer.enter_many(messages)]
    from smsq.connection import perform
    from smsq.entries import NO_ORIGIN

    entries = perform(writer._client, writer.making_entries(messages, NO_ORIGIN))
    return [one.state for one in perform(writer._client, writer.entering_entries(entries))]  # type: ignore[union-attr]


def ledger_writer(app: Any) -> LedgerWriter:
    """Give the app's own, which was its entrance up to 0.2.0."""
    return app.ledger_writer if hasattr(app, "ledger_writer") else app.entrance
