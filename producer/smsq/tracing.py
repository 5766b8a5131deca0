"""Traces, where the application has configured OpenTelemetry; nothing otherwise.

A message's trace goes from process to process in the ledger, as a W3C traceparent: any process may
publish a wake-up again, and a report comes days later. No span has a number, a code or an error's
text, and HTTP clients are not instrumented, because the URLs have all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Final, Literal

try:
    from opentelemetry import context, trace
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ImportError:  # It comes with an extra.
    INSTALLED = False
else:
    INSTALLED = True
    _W3C: Final = TraceContextTextMapPropagator()
    # It uses the provider that the application configures, even later.
    _tracer = trace.get_tracer("smsq")

_has_own_provider = False


def send_by(provider: Any) -> None:
    """Export smsq's spans by this provider, which no other library finds."""
    global _tracer, _has_own_provider  # as there is one provider in a process
    _tracer, _has_own_provider = provider.get_tracer("smsq"), True


class Sending:
    """The span of a message's entry, or of a batch's; it may be none at all."""

    def __init__(self, span: Any = None) -> None:
        self._span = span
        self.traceparent: str | None = None
        """What the ledger keeps; None where nothing is traced."""
        if span and span.is_recording() and span.get_span_context().trace_flags.sampled:
            carrier: dict[str, str] = {}
            _W3C.inject(carrier, trace.set_span_in_context(span))
            self.traceparent = carrier["traceparent"]

    def tell(self, known: Mapping[str, object]) -> None:
        """Add attributes."""
        if self.traceparent:
            self._span.set_attributes(_attributes(known))


_UNTRACED: Final = nullcontext(Sending())


def sending(known: Mapping[str, object]) -> AbstractContextManager[Sending]:
    """Run the block in a span `smsq send`."""
    return _span_of_sending(known) if _is_configured() else _UNTRACED


def _is_configured() -> bool:
    """Return whether spans go anywhere; without that each would cost as much as half an entry."""
    return INSTALLED and (
        _has_own_provider or not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)
    )


@contextmanager
def _span_of_sending(known: Mapping[str, object]) -> Iterator[Sending]:
    with _tracer.start_as_current_span(
        "smsq send",
        kind=trace.SpanKind.PRODUCER,
        attributes=_attributes(known),
        # It would record the error's text.
        record_exception=False,
        set_status_on_exception=False,
    ) as span:
        try:
            yield Sending(span)
        except Exception as error:
            span.set_status(trace.StatusCode.ERROR, type(error).__name__)
            raise


@contextmanager
def following(traceparent: str) -> Iterator[None]:
    """Run the block in the trace of a caller in another process; "" for none."""
    if not (INSTALLED and traceparent):
        yield
        return
    token = context.attach(_W3C.extract({"traceparent": traceparent}))
    try:
        yield
    finally:
        context.detach(token)


def happened(
    traceparent: str | None,
    name: str,
    kind: Literal["CLIENT", "CONSUMER"],
    since_ns: int,
    known: Mapping[str, object],
    *,
    error: str = "",
) -> None:
    """Add a span that ends now to a message's trace, if it has one.

    `since_ns` is Unix time; `error` is a word for its failure.
    """
    if not (INSTALLED and traceparent):
        return
    span = _tracer.start_span(
        name,
        _W3C.extract({"traceparent": traceparent}),
        kind=trace.SpanKind[kind],
        attributes=_attributes(known),
        start_time=since_ns,
    )
    if error:
        span.set_status(trace.StatusCode.ERROR, error)
    span.end()


def _attributes(known: Mapping[str, object]) -> dict[str, Any]:
    return {
        f"smsq.{name}": value if isinstance(value, int) else str(value)
        for name, value in known.items()
        if value
    }
