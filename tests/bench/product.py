"""What the bench uses of smsq, by the names of this release and of those up to 0.2.0."""

from __future__ import annotations

from typing import Any

from smsq.cipher import opener
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
    "free_port",
    "ledger_writer",
    "opener",
    "services",
]

api_service = getattr(services, "api", None) or services.door
"""Named door up to 0.2.0."""


def ledger_writer(app: Any) -> LedgerWriter:
    """Give the app's own, which was its entrance up to 0.2.0."""
    return app.ledger_writer if hasattr(app, "ledger_writer") else app.entrance
