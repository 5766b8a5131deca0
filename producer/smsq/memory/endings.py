"""How a message ends, and what a doubt or a transient report leads to, as ends.lua has it."""

from __future__ import annotations

from typing import cast

from smsq.campaigns import CANCELLED
from smsq.cancelling import Answer, Cancellation
from smsq.contract import StateName
from smsq.memory.book import Book
from smsq.memory.message import OF_THE_LIVE, Stored


def announce(book: Book, m: Stored) -> None:
    """Queue a message's end for its `notify` task."""
    if m.has("notify"):
        mid = m.of(_attempt_told(m), "mid")
        book.ended.append(m.fields | {"id": m.id} | ({"mid": mid} if mid else {}))


def _attempt_told(m: Stored) -> int:
    """Return the attempt that an end is of: the one reported on, or by which it was sent."""
    by, _, stat = m.fields.get("reason", "").partition("report:")
    if m.state == "delivered":
        stat = m.fields["stat"]
    for n in range(m.n, 0, -1):
        is_sent = m.state == "unreported" and m.of(n, "outcome") == "accepted"
        if is_sent or (stat and not by and m.of(n, "stat") == stat):
            return n
    return m.n


def finish(book: Book, m: Stored, to: str, reason: str | None = None) -> None:
    """End a message, which is kept for the retention."""
    m.set(state=to, finished=book.now)
    _free_key(book, m)
    m.drop("reason", *OF_THE_LIVE)
    if reason:
        m.set(reason=reason)
    book.set_timer(m, book.now + book.rules.retention_s * 1000)
    announce(book, m)


def _free_key(book: Book, m: Stored) -> None:
    if not (m.has("key") and m.certainly_not_sent):
        return
    key = (m.fields["key_space"], m.fields["key"])
    holder = book.holder_of(key)
    if holder and holder.id == m.id:
        del book.keys[key]


def expire(book: Book, m: Stored) -> None:
    """End a message whose ttl is over. It has expired only if it certainly was not sent."""
    if is_cancelled(book, m):
        cancel(book, m)
        return
    fallback = m.fields.get("otherwise")
    finish(book, m, "failed" if fallback else "expired", fallback)


def cancel(book: Book, m: Stored) -> None:
    """End a message that must not be sent: as cancelled only if it certainly was not sent."""
    if m.certainly_not_sent:
        finish(book, m, "cancelled")
    else:
        finish(book, m, "failed", "local:cancelled")


def is_cancelled(book: Book, m: Stored) -> bool:
    """Return whether there is no further attempt, whatever comes of the one that was made."""
    one = book.campaign_of(m)
    return m.has("stop") or (one is not None and one.stop == CANCELLED)


def ask_to_cancel(book: Book, message_id: str) -> Cancellation | None:
    """Cancel a message as far as that is possible, as cancelling.lua does; None: it is unknown."""
    m = book.messages.get(message_id)
    if m is None:
        return None
    if m.state in {"queued", "deferred", "held"}:
        cancel(book, m)
    elif m.state in {"sending", "accepted"}:
        m.set(stop="cancelled", expires=book.now)
    state = cast("StateName", str(m.state))
    answers: dict[str, Answer] = {"cancelled": "cancelled", "sending": "under_way"}
    answer = answers.get(state, "too_late")
    return Cancellation(message_id, answer, state, m.fields.get("reason"))


def defer(book: Book, m: Stored, wait_ms: int) -> None:
    """Wait, but never past the ttl's end."""
    m.set(state="deferred", waits=wait_ms)
    book.set_timer(m, min(book.now + wait_ms, m.expires))


def hold(book: Book, m: Stored) -> None:
    """Wait for an operator, without a timer."""
    m.set(state="held")
    book.set_timer(m, None)


def resend(book: Book, m: Stored, wait_ms: int, fallback: str, *, maybe_sent: bool) -> None:
    """Try once more within the budget, or fail with the reason."""
    if (
        is_cancelled(book, m)
        or m.resends >= book.rules.max_resends
        or book.now + wait_ms >= m.expires
    ):
        finish(book, m, "failed", fallback)
        return
    m.set(resends=m.resends + 1, otherwise=fallback)
    if maybe_sent:
        m.set(doubt=1)
    else:
        m.drop("doubt")
    defer(book, m, wait_ms)


def follow_doubt(book: Book, m: Stored, wait_ms: int) -> None:
    """Resend or hold, as the message's policy says: its attempt may have been sent."""
    if is_cancelled(book, m):
        cancel(book, m)
    elif m.has("hold"):
        hold(book, m)
    else:
        resend(book, m, wait_ms, "local:resends", maybe_sent=True)


def run_out_of_ttl(book: Book, message_id: str) -> bool:
    """Expire a message; return False where it does not wait to be sent."""
    m = book.messages.get(message_id)
    if m is None or m.state not in {"queued", "deferred"}:
        return False
    expire(book, m)
    return True


def decide(book: Book, message_id: str, decision: str) -> str:
    """Resend or drop a held message; return "done", or why not."""
    m = book.messages.get(message_id)
    if m is None or m.state != "held":
        return "unknown" if m is None else "not held"
    if is_cancelled(book, m):
        cancel(book, m)
        return "not held"
    if decision == "drop":
        finish(book, m, "failed", "local:dropped")
    elif book.now >= m.expires:
        return "too late"
    else:
        m.set(doubt=1, otherwise="local:resends")
        defer(book, m, 0)
    return "done"
