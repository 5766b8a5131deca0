"""What a delivery report does to its message and its number, as reports.lua has it."""

from __future__ import annotations

from typing import Final

from smsq.memory.book import Book
from smsq.memory.endings import defer, finish, hold, is_cancelled, resend
from smsq.memory.message import Stored
from smsq.memory.rules import Meaning

PER_MID: Final = 16
REPEATED_S: Final = 86_400
"""For so long a report that says delivered may be repeated."""


def report(book: Book, mid: str, meaning: Meaning) -> str:
    """Apply a report, or park it where its mid leads to no message (yet); return the state."""
    way = book.mids.get(mid)
    m = book.messages.get(way.id) if way and book.now < way.until else None
    if way is None or m is None:
        until = book.now + book.rules.report_wait_s * 1000
        kept = [*early_reports(book, mid), meaning][-PER_MID:]
        book.early[mid] = until, kept
        return "parked"
    apply_report(book, m, way.n, mid, meaning)
    return str(m.state)


def early_reports(book: Book, mid: str) -> list[Meaning]:
    """Take the reports that came before their mid was known."""
    until, reports = book.early.pop(mid, (0, []))
    return reports if book.now < until else []


def apply_report(book: Book, m: Stored, n: int, mid: str, r: Meaning) -> None:
    """Move a message on. Delivered outranks everything.

    Any other counts only where n is the last attempt that may have been sent.
    """
    m.note(n, stat=r.stat)
    is_doubted_anew = _takes_back_denial(m, n, r)
    if r.code_class == "delivered":
        _note_stat(m, r)
        if m.state != "delivered":
            finish(book, m, "delivered")
        if mid in book.mids:  # It has told all that it can.
            until = book.now + min(REPEATED_S, book.rules.retention_s) * 1000
            book.mids[mid] = book.mids[mid]._replace(until=until)
        return
    _shield_number(book, m, r)
    if (m.is_final and m.state != "unreported") or not m.is_last_sent(n):
        return
    _note_stat(m, r)
    if r.code_class == "permanent":
        finish(book, m, "failed", f"report:{r.stat}")
    elif is_doubted_anew and _goes_on_unless_held(book, m):
        hold(book, m)
    elif r.code_class == "transient":
        _retry(book, m, n, r, f"report:{r.stat}")


def _takes_back_denial(m: Stored, n: int, r: Meaning) -> bool:
    """Return whether it was reported before that an attempt did not arrive, and now may have."""
    if m.of(n, "denied") is None or not (r.code_class == "delivered" or r.maybe_sent):
        return False
    m.drop(f"{n}:denied")
    return True


def _goes_on_unless_held(book: Book, m: Stored) -> bool:
    return m.state in {"queued", "deferred"} and m.has("hold") and not is_cancelled(book, m)


def _retry(book: Book, m: Stored, n: int, r: Meaning, reason: str) -> None:
    if m.state == "unreported":
        finish(book, m, "failed", reason)
    elif m.state != "accepted":
        return
    elif r.pause == "account" and not r.maybe_sent and not is_cancelled(book, m):
        # The account is at fault: that uses up nothing.
        m.set(otherwise=reason)
        m.note(n, denied=1)
        defer(book, m, r.wait_ms)
    elif r.maybe_sent and m.has("hold") and not is_cancelled(book, m):
        hold(book, m)
    else:
        resend(book, m, r.wait_ms, reason, maybe_sent=r.maybe_sent)
        if not (r.maybe_sent or m.is_final):
            m.note(n, denied=1)


def _note_stat(m: Stored, r: Meaning) -> None:
    m.set(stat=r.stat)
    m.drop("raw")
    if r.raw:
        m.set(raw=r.raw)


def _shield_number(book: Book, m: Stored, r: Meaning) -> None:
    """Send nothing to the number: for good, or for a while."""
    who = m.fields.get("who")
    if who is None:  # It has ended.
        return
    if r.suppress_ms:
        until = book.now + r.suppress_ms
        book.numbers.suppress(who, r.stat, until, r.suppress_lanes, replaces=False)
    if r.hold_ms:
        book.numbers.hold(who, book.now + r.hold_ms)
