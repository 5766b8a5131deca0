"""Exporting the spans of worker and API: OTLP over HTTP, set by the standard OTEL_ variables."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from threading import Thread
from typing import Final

from smsq.errors import SettingsError
from smsq.tracing import send_by

PROTOCOL: Final = "http/protobuf"
FLUSH_S: Final = 5.0
"""How long the end of a process may wait for the receiver of its last spans."""


def start(role: str) -> Callable[..., None]:
    """Begin to send spans; return the function that sends the last ones. Raises SettingsError.

    Spans wait in memory and are dropped if nobody takes them: neither delays anything else.
    """
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        problem = "SMSQ_TRACES: 1 needs more packages: pip install 'smsq[otel]'"
        raise SettingsError([problem]) from None
    _refuse_other_protocols()
    own = Resource.create({SERVICE_NAME: f"smsq-{role}"})
    # shutdown_on_exit would wait up to half a minute for a receiver that is away.
    provider = TracerProvider(
        resource=own.merge(OTELResourceDetector().detect()), shutdown_on_exit=False
    )
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    # Not the global provider: FastAPI would find it, and record URLs with numbers and tokens.
    send_by(provider)
    # The processor logs each loss; the exporter would log it once more.
    logging.getLogger(OTLPSpanExporter.__module__).setLevel(logging.ERROR)

    def stop(**_: object) -> None:
        last = Thread(target=provider.shutdown, name="smsq-traces", daemon=True)
        last.start()
        last.join(FLUSH_S)

    return stop


def _refuse_other_protocols() -> None:
    for name in ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        value = os.environ.get(name) or PROTOCOL
        if value != PROTOCOL:
            raise SettingsError([f"{name}: {value!r} is not allowed; it takes {PROTOCOL}"])
