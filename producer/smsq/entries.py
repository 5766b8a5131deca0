"""What enqueue.lua takes and answers: entries of messages, and what became of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from smsq.cipher import PlaintextCipher
from smsq.contract import Message, OnAmbiguous, State, mask_phone, relay_space
from smsq.errors import CampaignCancelled, InvalidMessage, KeyConflict


@dataclass(frozen=True, slots=True)
class Origin:
    """Who sent a message through the relay, and where its callbacks go; its trace."""

    caller: str = ""
    """A name of SMSQ_RELAY_CALLERS_FILE; "" for the holder of SMSQ_RELAY_SECRET."""
    return_url: str = field(default="", repr=False)
    trace: str | None = None
    """W3C traceparent, of any message, where it is traced."""
    via: str = ""
    """Of a probe of one of several accounts: "@" and its key; it goes over no other."""


NO_ORIGIN: Final = Origin()


@dataclass(frozen=True, slots=True)
class Entered:
    """What the ledger made of a message."""

    state: State
    duplicate_of: str | None = None
    """The id of the message that holds its key, where that is another."""


def as_entry(
    cipher: PlaintextCipher, message_id: str, message: Message, origin: Origin
) -> tuple[Any, ...]:
    """Return a message as enqueue.lua takes it."""
    details = ["template", message.template, "phone", mask_phone(message.phone)]
    details += "who", cipher.phone_hash(message.phone)
    for name, value in (
        ("reference", message.reference),
        ("notify", message.notify),
        ("caller", origin.caller),
        ("returnurl", origin.return_url),
        ("trace", origin.trace),
        ("via", origin.via),
        ("campaign", message.campaign),
        ("row", message.row and str(message.row)),
        ("hold", message.on_ambiguous is OnAmbiguous.HOLD and "1"),
    ):
        if value:
            details += name, value
    key: tuple[str, ...] = ()
    if message.key:
        digests = cipher.idempotency(message.key, message.phone, message.template)
        key = (message.key_space, *digests)
    entry = (
        message_id,
        message.lane,
        cipher.seal(message.phone, message.code),
        round(message.ttl_s * 1000),
        round((message.send_at or 0) * 1000),
        key,
        "",
        details,
    )
    return (*entry, message.campaign) if message.campaign else entry


def as_entries(
    cipher: PlaintextCipher, messages: Iterable[tuple[str, Message]], origin: Origin
) -> list[tuple[Any, ...]]:
    """Return messages as enqueue.lua takes them: the first of each campaign says who sends it."""
    entries, named = [], set[str]()
    for message_id, message in messages:
        entry = as_entry(cipher, message_id, message, origin)
        if message.campaign and message.campaign not in named:
            named.add(message.campaign)
            entry = (*entry, _sender(message))
        entries.append(entry)
    return entries


def _sender(message: Message) -> str:
    """Return who sends a campaign, as its record shows it."""
    if message.key_space.startswith(relay_space("")):
        return message.key_space
    from smsq.audit import MAX_TEXT, operator  # Only campaigns need it.

    return operator()[:MAX_TEXT]


def as_entered(message_id: str, answer: str) -> Entered | KeyConflict:
    """Read an answer of enqueue.lua."""
    state, _, holder = answer.partition(" ")
    if state != "conflict":
        return Entered(State(state), holder or None)
    what = "task_id" if holder == message_id else "key"
    conflict = KeyConflict(
        f"{what} is that of message {holder}, which has another phone or template; repeat that "
        f"message as it was, or give this one a {what} of its own"
    )
    conflict.holder = holder
    return conflict


def campaign_error(answer: str) -> CampaignCancelled | InvalidMessage | None:
    """Return why no message of a call may be entered, as enqueue.lua answers."""
    what, _, name = answer.partition(" ")
    if what == "barred":
        error = CampaignCancelled(
            f"campaign {name} was cancelled: nothing was enqueued; send it in another campaign"
        )
        error.campaign = name
        return error
    if what == "crowded":
        return InvalidMessage(
            f"campaign {name} would be one too many: the ledger knows at most 10,000 at a time, "
            "each until SMSQ_RETENTION_S after its end"
        )
    if what == "greedy":
        return InvalidMessage(
            f"campaign {name} would be one too many of this caller's: it may have at most 1,000 at "
            "a time, each until SMSQ_RETENTION_S after its end"
        )
    return None
