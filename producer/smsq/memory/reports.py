"""What a delivery report does to its message and its number, as reports.lua has it."""

from __future__ import annotations

from typing import Final

from smsq.memory.book import Book
from smsq.memory.endings import defer, finish, hold, resend
from smsq.memory.message import Stored
from smsq.memory.rules import Meaning

PER_MID: Final = 16


def report(book: Book, mid: str, meaning: Meaning) -> str:
    """Apply a report, or park it where its mid leads to no message (yet); return the state."""
    n, message_id = book.mids.get(mid) or (0, "")
    m = book.messages.get(message_id)
    if m is None:
        book.keep(book.early, mid, [*book.early.get(mid, []), meaning][-PER_MID:])
        return "parked"
    apply_report(book, m, n, meaning)
    return str(m.state)


def apply_report(book: Book, m: Stored, n: int, r: Meaning) -> None:
    """Move a message on. Delivered outranks everything.

    The rest counts only where n is the last attempt that may have been sent.
    """
    m.note(n, stat=r.stat)
    if r.code_class == "delivered":
        _note_stat(m, r)
        if m.state != "delivered":
            finish(book, m, "delivered")
        return
    _shield_number(book, m, r)
    if (m.is_final and m.state != "unreported") or not m.is_last_sent(n):
        return
    _note_stat(m, r)
    reason = f"report:{r.stat}"
    is_transient, is_accepted = r.code_class == "transient", m.state == "accepted"
    if is_accepted and is_transient and r.pause == "account" and not r.maybe_sent:
        # The account is at fault: that uses up nothing.
        m.set(otherwise=reason)
        defer(book, m, r.wait_ms)
    elif r.code_class == "permanent" or (is_transient and m.state == "unreported"):
        finish(book, m, "failed", reason)
    elif is_transient and is_accepted:
        if r.maybe_sent and m.has("hold"):
            hold(book, m)
        else:
            resend(book, m, r.wait_ms, reason, maybe_sent=r.maybe_sent)


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
