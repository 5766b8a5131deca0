"""The sandbox gateway: an HTTP server that behaves as the vendor documents, faults included."""

from __future__ import annotations

from smsq_worker.sandbox.outcomes import OUTCOMES
from smsq_worker.sandbox.server import BindError, Sandbox

__all__ = ["OUTCOMES", "BindError", "Sandbox"]
