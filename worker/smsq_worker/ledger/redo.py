"""Sending again what certainly did not arrive, once, whoever dies in the middle.

Each message is sent again as another, whose id follows from its own: so whoever repeats a redo
means the same ones. First redo.lua notes this of the old one, then the new one is entered as any
message.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from typing import Any, Final, NamedTuple, TypeAlias
from uuid import UUID, uuid5

from smsq import keys
from smsq.cipher import Opener, PlaintextCipher, to_json
from smsq.compaction import unfolded
from smsq.connection import Client, mapped_errors
from smsq.contract import Lane, Message, OnAmbiguous, State
from smsq.entries import Entered, Origin, as_entry
from smsq.errors import KeyConflict
from smsq.failpoints import reached
from smsq.tracking import Status, status_of
from smsq_worker.config.settings import Settings
from smsq_worker.domain.codes import Catalogues, CodeClass
from smsq_worker.ledger.acts import Acts
from smsq_worker.ledger.audit import add_act
from smsq_worker.ledger.payloads import opened
from smsq_worker.ledger.reading import each
from smsq_worker.ledger.selecting import Selection, Selector

_NAMESPACE: Final = UUID("a1a4c3f6-6f4e-5d0f-9d52-0a4a7c6f5b11")
_PAGE: Final = 500
_SCANNED_AT_ONCE: Final = 1_000_000
BATCH: Final = 50
"""Messages in one act, and at most half done where a process dies."""
REDOABLE: Final = (State.FAILED, State.EXPIRED, State.UNREPORTED)
_NOT_SENT: Final = {"not_sent", "refused"}

Enter: TypeAlias = Callable[[Sequence[tuple[Any, ...]]], list[Entered | KeyConflict]]
"""Writes entries of enqueue.lua, and wakes up their messages."""


class Left(StrEnum):
    """Why a message is not sent again."""

    REDONE = "redone"
    """It has been, by a redo before."""
    OF_REDO = "of_redo"
    """A redo sent it, and its campaign was not asked for: a repeated redo would go on for ever."""
    SENT_AGAIN = "sent_again"
    """Its backend has, with the same key."""
    OTP = "otp"
    ERASED = "erased"
    """The ledger has its number no more, or none that a key at hand opens."""
    STATE = "state"
    """It is in none of REDOABLE, or came to another while this looked."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be sent again, and how."""

    selection: Selection
    also_doubtful: bool = False
    """Also what may have arrived."""
    scan: bool = False
    """Look through all of the ledger, for what no list has."""


@dataclass(slots=True)
class Tally:
    """What a redo takes, or took, by reason, and what not."""

    taken: Counter[str] = field(default_factory=Counter)
    may_have_arrived: Counter[str] = field(default_factory=Counter)
    """Of these none is taken."""
    left: Counter[Left] = field(default_factory=Counter)


class _Stored(NamedTuple):
    """What the ledger has of a message, and of those that may have taken its place."""

    id: str
    fields: dict[str, str]
    payload: str | None
    is_redone: int
    """Whether there is the message as which it is sent again."""
    kept: Sequence[str]
    holder: str | None
    """Who holds its key."""


@dataclass(frozen=True, slots=True)
class _Old:
    """A message that may be sent again, as it was read."""

    status: Status
    fields: Mapping[str, str]
    """As they are stored, but `redone_by`."""
    payload: str = field(repr=False)
    phone: str = field(repr=False)
    code: str = field(repr=False)
    kept: Sequence[str]
    """Its key, the key's fingerprint, the number's digest, whether doubt makes it wait."""
    is_certain: bool

    @property
    def reason(self) -> str:
        return self.status.reason or self.status.state


def redone_as(message_id: str) -> str:
    """Return the id of the message as which another is sent again."""
    return str(uuid5(_NAMESPACE, message_id))


class Redo(Acts):
    """Finds what failed, and sends it again. Raises LedgerUnavailable."""

    def __init__(
        self,
        client: Client,
        settings: Settings,
        *,
        catalogues: Catalogues,
        selector: Selector,
        enter: Enter,
    ) -> None:
        super().__init__(client, settings.rules, Opener(client, settings, strict=True))
        self._settings = settings
        self._catalogues = catalogues
        self._selector = selector
        self._enter = enter

    def survey(self, wish: Wish) -> Tally:
        """Return what `run` would take, and send nothing."""
        tally = Tally()
        for page in self._pages(wish, tally):
            tally.taken.update(one.reason for one in page)
        return tally

    def run(
        self,
        wish: Wish,
        campaign: str,
        *,
        act: str,
        ttl_s: float | None = None,
        told: Callable[[int], None] = lambda _n: None,
    ) -> Tally:
        """Send again what is found, as messages of a campaign; return what was done.

        `act` is from `smsq.audit`; `told` is called with how many are sent again by now. Raises
        CampaignCancelled. After any error, and a crash, the same call goes on: none is sent twice.
        """
        self._ask(add_act, self._client, act, f"as campaign {campaign}")
        tally, who = Tally(), json.loads(act)[0]
        entry = partial(_entry, self._cipher(), campaign=campaign, who=who, ttl_s=ttl_s)
        for page in self._pages(wish, tally):
            for start in range(0, len(page), BATCH):
                self._send(page[start : start + BATCH], entry, tally)
                told(tally.taken.total())
        return tally

    def _pages(self, wish: Wish, tally: Tally) -> Iterator[list[_Old]]:
        """Yield what is to be sent again; count what is not."""
        selection, after = wish.selection, ""
        limit = _SCANNED_AT_ONCE if wish.scan else _PAGE
        while True:
            found = self._selector.page(selection, limit, after, scan=wish.scan)
            ids = [message_id for message_id, _ in found.rows]
            for start in range(0, len(ids), _PAGE):
                page = []
                for one in self._read(ids[start : start + _PAGE]):
                    if isinstance(one, Left):
                        tally.left[one] += 1
                    elif one.status.redo_of and "campaign" not in selection.patterns:
                        tally.left[Left.OF_REDO] += 1
                    elif one.is_certain or wish.also_doubtful:
                        page.append(one)
                    else:
                        tally.may_have_arrived[one.reason] += 1
                yield page
            after = found.after
            if not after:
                return

    def _read(self, ids: Sequence[str]) -> Iterator[_Old | Left]:
        with mapped_errors(self._rules.url):
            with self._client.pipeline(transaction=False) as pipe:
                pipe.time()
                for message_id in ids:
                    pipe.hgetall(keys.message(message_id))
                    pipe.get(keys.payload(message_id))
                    pipe.exists(keys.message(redone_as(message_id)))
                clock, *stored = pipe.execute()
            kept = [_kept(payload) for payload in stored[1::3]]
            held = (keys.IDEMPOTENCY + (one[0] if one else "") for one in kept)
            holders = each(self._client, "GET", held)
        found = zip(ids, stored[::3], stored[1::3], stored[2::3], kept, holders, strict=True)
        for row in found:
            if row[1]:  # otherwise it was forgotten meanwhile
                yield self._judge(_Stored(*row), clock[0] + clock[1] / 1e6)

    def _judge(self, row: _Stored, now_s: float) -> _Old | Left:
        was_redone = row.fields.pop("redone_by", None) is not None
        fields = unfolded(row.fields)
        status = status_of(row.id, fields)
        if status.state not in REDOABLE:
            return Left.STATE
        if fields["lane"] == Lane.OTP:
            return Left.OTP
        if was_redone and row.is_redone:
            return Left.REDONE
        phone, code = opened(self._cipher(), row.payload) if row.payload else ("", "")
        if row.payload is None or not phone or not row.kept:
            return Left.ERASED
        if row.kept[0] and row.holder not in {None, row.id}:
            return Left.SENT_AGAIN
        # What its backend sent with the key this long ago may be forgotten.
        is_told = now_s < status.enqueued_at.timestamp() + 2 * self._settings.key_ttl_s
        is_certain = self._did_not_arrive(status, fields) and (is_told or not row.kept[0])
        return _Old(status, row.fields, row.payload, phone, code, row.kept, is_certain)

    def _did_not_arrive(self, status: Status, fields: Mapping[str, str]) -> bool:
        """Return whether no attempt can have arrived: not sent, refused, or reported as failed."""
        if status.certainly_not_sent:
            return True
        if "0:outcome" in fields or not status.attempts:
            return False
        for attempt in status.attempts:
            if attempt.outcome in _NOT_SENT:
                continue
            code = self._catalogues.of(attempt.account).classify(attempt.stat or "")
            has_failed = code.code_class in {CodeClass.PERMANENT, CodeClass.TRANSIENT}
            if attempt.outcome != "accepted" or not has_failed or code.may_have_been_sent:
                return False
        return True

    def _send(
        self, batch: Sequence[_Old], entry: Callable[[_Old], tuple[Any, ...]], tally: Tally
    ) -> None:
        going = list(self._noted(batch, tally))
        if not going:
            return
        found = self._enter([entry(one) for one in going])
        reached("after redo entry")
        for one, result in zip(going, found, strict=True):
            if isinstance(result, KeyConflict) or result.duplicate_of:
                tally.left[Left.SENT_AGAIN] += 1
            else:
                tally.taken[one.reason] += 1

    def _noted(self, batch: Sequence[_Old], tally: Tally) -> Iterator[_Old]:
        """Note that they are sent again; yield those of which that holds, and count the others."""
        rows = [(one.status.id, redone_as(one.status.id), one.fields, one.payload) for one in batch]
        reached("before redo")
        answers: list[str] = self._run_plain("redo", to_json(rows))[0]
        reached("after redo")
        for one, answer in zip(batch, answers, strict=True):
            if answer == "go":
                yield one
            else:
                tally.left[_LEFT[answer.partition(" ")[0]]] += 1


_LEFT: Final = {"done": Left.REDONE, "changed": Left.STATE, "sent": Left.SENT_AGAIN}


def _kept(payload: str | None) -> Sequence[str]:
    """Return what ends.lua keeps behind number and code; () where it is nothing."""
    try:
        kept = json.loads(payload or "[]")[2:]
    except (ValueError, TypeError):
        return ()
    return kept if len(kept) == len(("key", "fingerprint", "who", "hold")) else ()


def _entry(
    cipher: PlaintextCipher, old: _Old, *, campaign: str, who: str, ttl_s: float | None
) -> tuple[Any, ...]:
    """Return the new message as enqueue.lua takes it, with the key as it is stored."""
    lane, fields = Lane(old.status.lane), old.fields
    message = Message(
        phone=old.phone,
        template=old.status.template or "",
        code=old.code,
        lane=lane,
        ttl_s=lane.ttl_s if ttl_s is None else ttl_s,
        on_ambiguous=OnAmbiguous.HOLD if old.kept[3] else OnAmbiguous.RESEND,
        reference=old.status.reference,
        notify=fields.get("notify"),
        campaign=campaign,
    )
    origin = Origin(fields.get("caller", ""), fields.get("returnurl", ""))
    entry = as_entry(cipher, redone_as(old.status.id), message, origin)
    space, _, digest = old.kept[0].rpartition(":")
    key = (space, digest, old.kept[1]) if digest else ()
    details = [*entry[7], "redo_of", old.status.id]
    return (*entry[:5], key, entry[6], details, campaign, who)
