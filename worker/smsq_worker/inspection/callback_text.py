"""Who was told of a message's end, as far as that can be known."""

from __future__ import annotations

from collections.abc import Iterator

from smsq.contract import State
from smsq_worker.i18n import _, ngettext
from smsq_worker.inspection.events import Event, Story
from smsq_worker.inspection.formatting import clean, state_name
from smsq_worker.ledger.message_view import KINDS, Telling, Trace


def receiver(trace: Trace, kind: str) -> str:
    """Return the name of an endpoint of callbacks."""
    if kind == "task":
        return _("the task {name}", name=clean(str(trace.notify)))
    return clean(str(trace.return_host)) if kind == "returnurl" else _("the webhook")


def kind_of(callback: Telling) -> tuple[str, str]:
    """Return the kind of endpoint of a callback, and the state that it reports."""
    kind, state, _id = callback.name.split(":", 2)
    return kind, state


def settled_callbacks(story: Story) -> Iterator[Event]:
    """Yield which callbacks wait no more, and which never arrived."""
    trace = story.trace
    if trace.asks_whom:
        return
    state = State(trace.status.state)
    open_kinds = {kind for kind, of in map(kind_of, trace.tellings) if of == state}
    wanted = {
        "task": trace.notify,
        # The first message has its own report.
        "returnurl": trace.return_host and state != State.DUPLICATE,
        "webhook": story.settings.webhook_url,
    }
    for kind in KINDS:
        if wanted[kind] and kind not in open_kinds:
            yield Event(None, "outcome", _settled(story, kind))
    for callback in trace.tellings:
        if callback.next_at is None:
            kind, reported = kind_of(callback)
            words = ngettext(
                "{state} was not taken by {receiver}, abandoned after {n} try ({error}): "
                "smsq notices replay {name}",
                "{state} was not taken by {receiver}, abandoned after {n} tries ({error}): "
                "smsq notices replay {name}",
                callback.tries,
                state=state_name(reported),
                receiver=receiver(trace, kind),
                error=clean(callback.error),
                name=callback.name,
            )
            yield Event(None, "outcome", words)


def _settled(story: Story, kind: str) -> str:
    """Return what is known of a callback that waits no more; one that was dropped is forgotten."""
    state = state_name(story.trace.status.state)
    if kind == "task":
        return _(
            "{state} was put into the queue {queue} for {receiver}, or an operator dropped it; "
            "the application's own worker must run it there, which smsq cannot see",
            state=state,
            queue=story.settings.notify_queue,
            receiver=receiver(story.trace, kind),
        )
    if kind == "webhook":
        return _(
            "{state} was accepted by the webhook, if SMSQ_WEBHOOK_URL was set at its end, or an "
            "operator dropped it",
            state=state,
        )
    return _(
        "{state} was accepted by {receiver}, or an operator dropped it",
        state=state,
        receiver=receiver(story.trace, kind),
    )
