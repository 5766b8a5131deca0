"""Entering messages, as enqueue.lua does."""

from __future__ import annotations

from typing import Any

from smsq.memory.book import Book, Holder
from smsq.memory.campaigns import end_holder
from smsq.memory.endings import announce
from smsq.memory.message import Stored


def enter(book: Book, entry: tuple[Any, ...]) -> str:
    """Enter a message as `as_entry` gives it; return the answer as enqueue.lua writes it."""
    message_id, lane, _, ttl_ms, send_at_ms, key, _, details = entry[:8]
    fields = dict(zip(details[::2], details[1::2], strict=True))
    known = book.messages.get(message_id)
    if known:
        return _answer_again(known, fields)

    now = book.now
    due = max(now, send_at_ms)
    holder = None
    if key:
        space, digest, fingerprint = key
        holder = _holder_of(book, (space, digest))
        if holder and holder.fingerprint != fingerprint:
            return f"conflict {holder.id}"
        if not holder:
            book.take((space, digest), message_id, fingerprint)
    m = Stored(message_id, fields)
    m.set(lane=lane, enqueued=now)
    book.add(m)
    if holder:
        m.set(state="duplicate", reason=f"duplicate:{holder.id}", finished=now)
        book.set_timer(m, now + book.rules.retention_s * 1000)
        announce(book, m)
        m.drop("who", "notify")
        return f"duplicate {holder.id}"
    m.set(state="deferred" if due > now else "queued", expires=due + ttl_ms)
    if due > now:
        m.set(due=due)
    if key:
        m.set(key=key[1], key_space=key[0])
    book.set_timer(m, due if due > now else due + ttl_ms)
    return str(m.state)


def _holder_of(book: Book, key: tuple[str, str]) -> Holder | None:
    holder = book.holder_of(key)
    return None if holder and end_holder(book, holder.id) else holder


def _answer_again(known: Stored, fields: dict[str, str]) -> str:
    if _is_another(known, fields):
        return f"conflict {known.id}"
    if known.state == "duplicate":
        return known.fields["reason"].replace("duplicate:", "duplicate ", 1)
    return str(known.state)


def _is_another(known: Stored, fields: dict[str, str]) -> bool:
    return any(known.fields.get(name) != fields[name] for name in ("template", "phone"))
