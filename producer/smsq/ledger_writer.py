"""Writing new messages to the ledger; each atomic act is a Lua file beside this one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from redis.exceptions import RedisError

from smsq import keys
from smsq.cipher import Opener, to_json
from smsq.connection import NOTHING_ENTERED, Client, mapped_errors, perform, running
from smsq.contract import Lane, Message, State
from smsq.entries import NO_ORIGIN, Entered, Origin, as_entered, as_entries, campaign_error
from smsq.errors import KeyConflict, LedgerFull, LedgerUnavailable
from smsq.functions import Act
from smsq.ids import parse_id
from smsq.settings import ProducerSettings
from smsq.steps import Steps

FIRST_CHECK_S: Final = 30
"""When the scheduler first checks whether a message's wake-up was lost on its way to a worker.

1 ms later for each message of its lane that is queued before it.
"""

IN_DOUBT: Final = "; the message may or may not be in: repeat it with the same key or task_id"


class WakeUp(NamedTuple):
    """A message's wake-up, and where it is pushed."""

    queue: str
    envelope: str


class LedgerWriter:
    """Writes new messages, for producers and for a worker that receives a bare message.

    What begins with `entering` is without the I/O; it serves blocking and async callers.
    """

    def __init__(
        self, client: Client, settings: ProducerSettings, cipher: Opener | None = None
    ) -> None:
        self._client = client
        self._settings = settings
        self._cipher = cipher or Opener(client, settings)
        self._enqueue = Act("enqueue")
        self._unpublished = Act("unpublished")

    def enter(self, message_id: str, message: Message, origin: Origin = NO_ORIGIN) -> Entered:
        """Write a message, as `entering` does; its wake-up is the caller's."""
        return perform(self._client, self.entering(message_id, message, origin, None))

    def entering(
        self, message_id: str, message: Message, origin: Origin, wakeup: WakeUp | None
    ) -> Steps[Entered]:
        """Write a message; return its state: queued, deferred, duplicate, or what it was already.

        The `wakeup` is pushed in the same act if the message is new, and queued. Raises
        LedgerUnavailable, SettingsError where the ledger's payload keys are different,
        InvalidMessage for a bad id, KeyConflict and CampaignCancelled: then nothing is written.
        """
        cipher = self._cipher.opened or (yield from self._cipher.steps(NOTHING_ENTERED))
        entries = as_entries(cipher, [(parse_id(message_id), message)], origin)
        (answer,) = yield from self._writing(entries, wakeup=("one", *wakeup) if wakeup else ())
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
        entries = yield from self.making_entries([(message_id, message)], origin)
        own = ("one", *wakeup) if wakeup else ()
        return (yield from self._writing(entries, wakeup=own, act=act, before=before))

    def hashing(self, phone: str) -> Steps[str]:
        """Digest a number, as limits find it."""
        return (yield from self._cipher.steps()).phone_hash(phone)

    def making_entries(
        self, messages: Sequence[tuple[str, Message]], origin: Origin
    ) -> Steps[list[tuple[Any, ...]]]:
        """Return messages as `entering_entries` takes them. Raises InvalidMessage for a bad id."""
        for message_id, _ in messages:
            parse_id(message_id)
        cipher = self._cipher.opened or (yield from self._cipher.steps(NOTHING_ENTERED))
        return as_entries(cipher, messages, origin)

    def entering_entries(
        self,
        entries: Sequence[tuple[Any, ...]],
        stop_at_conflict: bool = False,
        wakeups: Sequence[str] = (),
    ) -> Steps[list[Entered | KeyConflict]]:
        """Write entries as `as_entry` makes them in one act; return the result of each.

        `wakeups`, of `wakeup.of_batches`, are pushed in the same act for the new messages that are
        queued.
        A message whose key conflicts is not written, nor with `stop_at_conflict` those after it,
        which have no result. Raises LedgerUnavailable, and CampaignCancelled where the campaign of
        one of them was: then none is written.
        """
        answers = yield from self._writing(entries, stop_at_conflict, wakeups)
        return [as_entered(one[0], answer) for one, answer in zip(entries, answers, strict=False)]

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
