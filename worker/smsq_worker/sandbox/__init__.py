"""The sandbox gateway: an HTTP server that behaves as the vendor documents, faults included."""

from __future__ import annotations

from smsq_worker.sandbox.accounts import SandboxAccounts
from smsq_worker.sandbox.behaviour import MOODS
from smsq_worker.sandbox.outcomes import OUTCOMES
from smsq_worker.sandbox.port import BindError
from smsq_worker.sandbox.server import Sandbox, run

__all__ = ["MOODS", "OUTCOMES", "BindError", "Sandbox", "SandboxAccounts", "run"]
