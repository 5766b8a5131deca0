"""Writing new messages to the ledger; each atomic act is a Lua file beside this one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from redis.exceptions import RedisError

from smsq import keys
from smsq.cipher import Opener, PlaintextCipher, opener, to_json
from smsq.connection import Client, mapped_errors, perform, running
from smsq.contract import Lane, Message, OnAmbiguous, State, mask_phone, parse_id, relay_space
from smsq.errors import (
    CampaignCancelled,
    InvalidMessage,
    KeyConflict,
    LedgerFull,
    LedgerUnavailable,
)
from smsq.functions import Act
from smsq.settings import ProducerSettings
from smsq.steps import Steps

FIRST_CHECK_S: Final = 30
"""When the scheduler first checks whether a message's wake-up was lost on its way to a worker.

1 ms later for each message of its lane that is queued before it.
"""

_CAMPAIGN: Final = 8
"""Where an entry has it."""
IN_DOUBT: Final = "; the message may or may not be in: repeat it with the same key or task_id"


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


class WakeUp(NamedTuple):
    """A message's wake-up, and where it is pushed."""

    queue: str
    envelope: str


class BatchWakeUp(NamedTuple):
    """What wakes up those of a batch that are in a lane: an envelope with marks."""

    lane: Lane
    queue: str
    envelope: str


@dataclass(frozen=True, slots=True)
class Entered:
    """What the ledger made of a message."""

    state: State
    duplicate_of: str | None = None
    """The id of the message that holds its key, where that is another."""


class LedgerWriter:
    """Writes new messages, for producers and for a worker that receives a bare message.

    What begins with `entering` is without the I/O; it serves blocking and async callers.
    """

    def __init__(
        self, client: Client, settings: ProducerSettings, cipher: Opener | None = None
    ) -> None:
        self._client = client
        self._settings = settings
        self._cipher = cipher or opener(client, settings)
        self._enqueue = Act("enqueue")
        self._unpublished = Act("unpublished")

    def enter(self, message_id: str, message: Message, origin: Origin = NO_ORIGIN) -> State:
        """Write a message; return its state, as `enter_one` does."""
        return self.enter_one(message_id, message, origin).state

    def enter_one(
        self,
        message_id: str,
        message: Message,
        origin: Origin = NO_ORIGIN,
        wakeup: WakeUp | None = None,
    ) -> Entered:
        """Write a message; return its state: queued, deferred, duplicate, or what it was already.

        The `wakeup` is pushed in the same act if the message is new, and queued. Raises
        LedgerUnavailable, SettingsError where the ledger's payload keys are different,
        InvalidMessage for a bad id, KeyConflict and CampaignCancelled: then nothing is written.
        """
        return perform(self._client, self.entering(message_id, message, origin, wakeup))

    def entering(
        self, message_id: str, message: Message, origin: Origin, wakeup: WakeUp | None
    ) -> Steps[Entered]:
        """Enter as `enter_one` does, as steps."""
        cipher = self._cipher.opened or (yield from self._cipher.steps())
        entry = as_entry(cipher, parse_id(message_id), message, origin)
        (answer,) = yield from self._writing([entry], wakeup=("one", *wakeup) if wakeup else ())
        found = as_entered(message_id, answer)
        if isinstance(found, KeyConflict):
            raise found
        return found

    def entering_within(
        self,
        act: Act,
        before: Sequence[Any],
        message_id: str,
        message: Message,
        *,
        origin: Origin,
        wakeup: WakeUp | None,
    ) -> Steps[list[str]]:
        """Run an act that takes more arguments before those of enqueue.lua; return its answer."""
        cipher = yield from self._cipher.steps()
        entry = as_entry(cipher, message_id, message, origin)
        own = ("one", *wakeup) if wakeup else ()
        return (yield from self._writing([entry], wakeup=own, act=act, before=before))

    def hashing(self, phone: str) -> Steps[str]:
        """Digest a number, as limits find it."""
        return (yield from self._cipher.steps()).phone_hash(phone)

    def enter_many(
        self,
        messages: Sequence[tuple[str, Message]],
        origin: Origin = NO_ORIGIN,
        *,
        stop_at_conflict: bool = False,
        wakeups: Sequence[BatchWakeUp] = (),
    ) -> list[Entered | KeyConflict]:
        """Write messages in one act; return the result of each.

        `wakeups` are pushed in the same act, each for the new messages of its lane that are queued.
        A message whose key conflicts is not written, nor with `stop_at_conflict` those after it,
        which have no result. Raises LedgerUnavailable, SettingsError and InvalidMessage, and
        CampaignCancelled where the campaign of one of them was: then none is written.
        """
        steps = self.entering_many(messages, origin, stop_at_conflict, wakeups)
        return perform(self._client, steps)

    def entering_many(
        self,
        messages: Sequence[tuple[str, Message]],
        origin: Origin,
        stop_at_conflict: bool,
        wakeups: Sequence[BatchWakeUp],
    ) -> Steps[list[Entered | KeyConflict]]:
        """Enter as `enter_many` does, as steps."""
        ids = [parse_id(message_id) for message_id, _ in messages]
        cipher = self._cipher.opened or (yield from self._cipher.steps())
        entries = [as_entry(cipher, one, message, origin) for one, message in messages]
        _name_senders_once(entries)
        wakeup = ("many", *(part for one in wakeups for part in one)) if wakeups else ()
        answers = yield from self._writing(entries, stop_at_conflict, wakeup)
        return [as_entered(one, answer) for one, answer in zip(ids, answers, strict=False)]

    def enter_entries(
        self, entries: Sequence[tuple[Any, ...]], wakeups: Sequence[BatchWakeUp] = ()
    ) -> list[Entered | KeyConflict]:
        """Write entries as `as_entry` makes them in one act, as `enter_many` does."""
        wakeup = ("many", *(part for one in wakeups for part in one)) if wakeups else ()
        answers = perform(self._client, self._writing(entries, wakeup=wakeup))
        return [as_entered(one[0], answer) for one, answer in zip(entries, answers, strict=True)]

    def refuse(self, message_id: str, why: str, reason: str = "local:invalid") -> State:
        """Write that a message from outside cannot be sent: failed, with this reason."""
        entry = (message_id, Lane.NOTICE, "", 0, 0, (), reason, ["detail", why])
        (answer,) = perform(self._client, self._writing([entry]))
        return State(answer.partition(" ")[0])  # What follows is the holder of a known id's key.

    def unpublished(self, message_id: str) -> None:
        """Note that a wake-up could not be published, so that the scheduler does it at once."""
        with mapped_errors(self._settings.redis_url):
            perform(self._client, running(self._unpublished, [message_id], 0))

    def _writing(
        self,
        entries: Sequence[tuple[Any, ...]],
        stop_at_conflict: bool = False,
        wakeup: Sequence[str] = (),
        act: Act | None = None,
        before: Sequence[Any] = (),
    ) -> Steps[list[str]]:
        settings = self._settings
        args = (
            *before,
            FIRST_CHECK_S * 1000,
            settings.retention_s * 1000,
            settings.key_ttl_s * 1000,
            ("stop " if stop_at_conflict else "") + ("index" if settings.index else ""),
            to_json(entries),
            *wakeup,
        )
        try:
            with mapped_errors(settings.redis_url, IN_DOUBT):
                used = act or self._enqueue
                answers, is_safe = yield from running(used, args, settings.wait_replicas)
        except LedgerFull as error:
            if (yield from _knows_any([str(entry[0]) for entry in entries])):
                raise LedgerUnavailable(f"{error}{IN_DOUBT}") from error.__cause__
            raise
        if not is_safe:
            raise LedgerUnavailable(
                f"the ledger took the message, but {settings.wait_replicas} replicas "
                "(SMSQ_REDIS_WAIT_REPLICAS) did not have it in time: it may be sent, or be lost"
            )
        if answers and (barred := campaign_error(str(answers[0]))):
            raise barred
        return list(map(str, answers))


def _knows_any(ids: Sequence[str]) -> Steps[bool]:
    """Return whether the ledger has any of these messages, or does not say.

    A full server refuses a function before it runs, so also one that is sent again because its
    answer was lost.
    """
    try:
        return any((yield [("HGET", keys.message(message_id), "state") for message_id in ids]))
    except RedisError:
        return True


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


def _sender(message: Message) -> str:
    """Return who sends a campaign, as its record shows it."""
    if message.key_space.startswith(relay_space("")):
        return message.key_space
    from smsq.audit import MAX_TEXT, operator  # Only campaigns need it.

    return operator()[:MAX_TEXT]


def _name_senders_once(entries: list[tuple[Any, ...]]) -> None:
    """Leave who sends a campaign to the first of its messages."""
    named = set()
    for n, entry in enumerate(entries):
        campaign = entry[_CAMPAIGN] if len(entry) > _CAMPAIGN else None
        if campaign in named:
            entries[n] = entry[: _CAMPAIGN + 1]
        elif campaign:
            named.add(campaign)


def as_entry(
    cipher: PlaintextCipher, message_id: str, message: Message, origin: Origin
) -> tuple[Any, ...]:
    """Return a message as enqueue.lua takes it."""
    details = {
        "template": message.template,
        "phone": mask_phone(message.phone),
        "who": cipher.phone_hash(message.phone),
        "reference": message.reference,
        "notify": message.notify,
        "caller": origin.caller,
        "returnurl": origin.return_url,
        "trace": origin.trace,
        "via": origin.via,
        "campaign": message.campaign,
        "row": message.row and str(message.row),
        "hold": "1" if message.on_ambiguous is OnAmbiguous.HOLD else None,
    }
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
        [part for name, value in details.items() if value for part in (name, value)],
    )
    if not message.campaign:
        return entry
    return (*entry, message.campaign, _sender(message))
