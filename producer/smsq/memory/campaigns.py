"""What is done with campaigns, as enqueue.lua, campaign.lua and campaigns_tick.lua do it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal

from smsq.campaigns import CANCELLED, PAUSED, WAITING, apparent
from smsq.memory.book import Book, Campaign
from smsq.memory.endings import cancel, defer
from smsq.memory.message import Stored

Deed = Literal["pause", "resume", "cancel"]

AT_MOST: Final = 10_000


def join(book: Book, names: Iterable[str | None]) -> str:
    """Begin the records of new campaigns; return why nothing may be entered, as enqueue.lua."""
    for name in dict.fromkeys(names):
        if not name:
            continue
        known = book.campaign(name)
        if known and known.stop == CANCELLED:
            return f"barred {name}"
        if not known and len(book.campaigns) >= AT_MOST:
            book.forget_campaigns()
            if len(book.campaigns) >= AT_MOST:
                return f"crowded {name}"
        book.campaigns[name] = known or Campaign(since=book.now)
    return ""


def do(book: Book, deed: Deed, name: str) -> str:
    """Apply what an operator says; return what it was: "", paused, cancelled (for good), unknown.

    As in Redis, messages are ended or go on with the next `look_after`.
    """
    one = book.campaign(name)
    if one is None:
        return "unknown"
    was = one.stop
    if was != CANCELLED:
        one.stop = {"pause": PAUSED, "resume": "", "cancel": CANCELLED}[deed]
        if one.stop != was:
            one.stopped = book.now
        one.is_unswept = one.stop == CANCELLED
    return was


def wait(book: Book, m: Stored, one: Campaign) -> None:
    """Add a message to the waiting room of its campaign."""
    defer(book, m, m.expires - book.now)
    one.waiting[m.id] = None


def waits(book: Book, message_id: str) -> bool:
    """Return whether a message waits for its campaign."""
    m = book.messages.get(message_id)
    one = book.campaign_of(m) if m else None
    return one is not None and message_id in one.waiting


def look_after(book: Book) -> None:
    """End what was cancelled, and let go on what no longer waits, as a worker's scheduler does."""
    for one in [*book.campaigns.values()]:
        if one.is_unswept:
            one.is_unswept = False
            for m in [*book.messages.values()]:
                if book.campaign_of(m) is one and m.state in WAITING:
                    cancel(book, m)
        elif not one.stop and one.waiting:
            waiting, one.waiting = one.waiting, {}
            for message_id in waiting:
                _go_on(book, book.messages.get(message_id))


def _go_on(book: Book, m: Stored | None) -> None:
    if m and m.state == "deferred" and book.now < m.expires:  # else its timer ends it
        m.set(state="queued")
        book.set_timer(m, m.expires)


def end_holder(book: Book, message_id: str) -> bool:
    """End the holder of a key whose campaign was cancelled before it was sent; return whether."""
    m = book.messages.get(message_id)
    one = book.campaign_of(m) if m else None
    if not (m and one and one.stop == CANCELLED and m.state in WAITING and m.certainly_not_sent):
        return False
    cancel(book, m)
    return True


def shown(book: Book, m: Stored) -> dict[str, str]:
    """Return a message's fields as they are to be shown, before the sweep has come to it, too."""
    one = book.campaign_of(m)
    return apparent(m.fields, one.stop, str(one.stopped)) if one else m.fields
