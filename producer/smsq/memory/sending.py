"""What a worker does with a message: admit it, and record its attempts' results."""

from __future__ import annotations

from typing import Final

from smsq.memory import campaigns
from smsq.memory.book import Book, Way
from smsq.memory.endings import cancel, defer, expire, finish, follow_doubt, is_cancelled
from smsq.memory.message import Stored
from smsq.memory.reports import apply_report, early_reports

KEEP_ATTEMPTS: Final = 10

Admission = int | str
"""The attempt's number, or why there is none, as in the ledger's Rejected."""


def admit(book: Book, message_id: str) -> Admission:
    """Admit a message if it may be sent, as admit.lua does."""
    m = book.messages.get(message_id)
    if m is None:
        return "unknown"
    if why_not := _why_not(book, m):
        return why_not
    now, n = book.now, m.n + 1
    if m.lane == "otp" and m.n == 0:
        book.numbers.note_sent(m.fields["who"], now)
    m.set(state="sending", n=n)
    m.note(n, at=now)
    book.set_timer(m, now + round(book.rules.lease_s * 1000))
    return n


def _why_not(book: Book, m: Stored) -> str:
    """Return why a message may not be sent, having done what follows; "" where it may."""
    one = book.campaign_of(m)
    if m.state != "queued":
        return "copy"
    if book.now >= m.expires:
        expire(book, m)
        return "expired"
    if not (one and one.stop):
        return _why_not_to(m.fields["who"], book, m)
    if is_cancelled(book, m):
        cancel(book, m)
        return "ended"
    campaigns.wait(book, m, one)
    return "deferred"


def _why_not_to(who: str, book: Book, m: Stored) -> str:
    now, numbers, allowed = book.now, book.numbers, 0
    if detail := numbers.suppression(who, m.lane, now):
        m.set(detail=detail)
        finish(book, m, "failed", "local:suppressed")
        return "ended"
    held_until = numbers.held_until(who)
    if now < held_until < m.expires:
        defer(book, m, held_until - now)
        return "deferred"
    if now < held_until:
        allowed = held_until
    elif m.lane == "otp" and not m.n:  # A resend is not another message.
        allowed = numbers.allowed_at(who, now)
    if allowed:
        m.set(allowed=allowed)
        finish(book, m, "failed", "local:frequency")
    return "ended" if allowed else ""


def record(
    book: Book,
    message_id: str,
    n: int,
    outcome: str,
    *,
    detail: str = "",
    mid: str = "",
    wait_s: float = 0,
) -> str:
    """Record an attempt's result, and do what follows, as record.lua does; return the state."""
    m = book.messages.get(message_id)
    if m is None or n > m.n:
        return "unknown"
    known = m.of(n, "outcome")
    # This command sent twice, perhaps about an attempt that has been forgotten since.
    if m.of(n, "at") is None or (known and known != "maybe_sent"):
        return str(m.state)
    m.note(n, outcome=outcome, detail=detail)
    if known:
        _resolve(m, n, outcome)
    reports, of = [], n
    if mid:
        m.note(n, mid=mid)
        found = _know(book, mid, m, n)
        if found:
            reports, of = early_reports(book, mid), found
    # A late acceptance holds, too, where those after it came to nothing: no other is to be sent.
    counts = n == m.n or (m.state != "accepted" and m.is_known_accepted)
    if counts and not m.is_final:
        _follow(book, m, n, outcome, round(wait_s * 1000))
    for report in reports:
        apply_report(book, m, of, mid, report)
    return str(m.state)


def _know(book: Book, mid: str, m: Stored, n: int) -> int | None:
    """Note which attempt a mid belongs to; return it, None where it is two messages'."""
    known = book.mids.get(mid)
    if known and book.now >= known.until:
        known = None
    if known is None or known.id == m.id:
        n = min(n, known.n) if known else n
        book.mids[mid] = Way(n, m.id)
        return n
    book.mids[mid] = Way(0, "")
    return None


def _follow(book: Book, m: Stored, n: int, outcome: str, wait_ms: int) -> None:
    is_late = m.state != "sending" or n != m.n
    if m.is_known_accepted:
        m.set(state="accepted", accepted=book.now)
        m.drop("doubt", "otherwise", "due")
        book.set_timer(m, book.now + book.rules.report_wait_s * 1000)
    elif outcome == "refused":
        finish(book, m, "failed", (m.of(n, "detail") or "").partition(" ")[0])
    elif outcome == "not_sent":
        m.drop("doubt")
        if is_cancelled(book, m):
            cancel(book, m)
            return
        defer(book, m, wait_ms)
        _forget_old_attempt(m)
    elif not is_late:
        follow_doubt(book, m, wait_ms)


def _forget_old_attempt(m: Stored) -> None:
    """Keep few attempts that came to nothing: an outage of a day makes hundreds."""
    old = m.n - KEEP_ATTEMPTS
    if m.of(old, "outcome") == "not_sent":
        m.drop(*(f"{old}:{name}" for name in ("at", "outcome", "detail")))


def _resolve(m: Stored, n: int, outcome: str) -> None:
    """Return what a doubt has cost that is none after all."""
    if outcome == "maybe_sent":
        return
    if m.is_final:
        words = {"accepted": "accepted after all", "refused": "refused", "not_sent": "not sent"}
        m.set(detail=f"learnt later: call {n} was {words[outcome]}")
    elif outcome != "accepted":
        if not m.has("hold"):
            m.set(resends=max(0, m.resends - 1))
        fallback = _perhaps_sent(m) if m.has("otherwise") else None
        m.drop("otherwise")
        if fallback:
            m.set(otherwise=fallback)


def _perhaps_sent(m: Stored) -> str | None:
    """Return why a message may have been sent by now, as the reason to fail with."""
    for n in range(m.n, 0, -1):
        outcome, stat = m.of(n, "outcome"), m.of(n, "stat")
        if outcome == "accepted" and stat:
            return f"report:{stat}"
        if outcome in {"accepted", "maybe_sent"}:
            return "local:resends"
    return None


def run_out(book: Book, m: Stored) -> None:
    """Run out a message's timer, as claim.lua does."""
    if m.is_final:
        book.forget(m.id)
    elif m.state == "sending":  # its worker died
        m.note(m.n, outcome="maybe_sent", detail="lease ran out")
        follow_doubt(book, m, 1000)
    elif m.state == "accepted":
        finish(book, m, "unreported")
    elif book.now >= m.expires:
        expire(book, m)
    else:
        m.set(state="queued")
        book.set_timer(m, m.expires)
