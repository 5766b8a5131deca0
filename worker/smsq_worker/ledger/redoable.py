"""What can be sent again: what failed, and whether it certainly did not arrive."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, NamedTuple
from uuid import UUID, uuid5

from smsq import keys
from smsq.cipher import Opener
from smsq.compaction import unfolded
from smsq.connection import Client, mapped_errors
from smsq.contract import Lane, State
from smsq.tracking import Status, status_of
from smsq_worker.config.settings import Settings
from smsq_worker.domain.codes import Catalogues, CodeClass
from smsq_worker.ledger.payloads import opened
from smsq_worker.ledger.reading import each
from smsq_worker.ledger.selecting import Selection, Selector

_NAMESPACE: Final = UUID("a1a4c3f6-6f4e-5d0f-9d52-0a4a7c6f5b11")
_PAGE: Final = 500
_SCANNED_AT_ONCE: Final = 1_000_000
REDOABLE: Final = (State.FAILED, State.EXPIRED, State.UNREPORTED)
_NOT_SENT: Final = {"not_sent", "refused"}


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
class Old:
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
        """Why it failed."""
        return self.status.reason or self.status.state


def redone_as(message_id: str) -> str:
    """Return the id of the message as which another is sent again."""
    return str(uuid5(_NAMESPACE, message_id))


class Finder:
    """Finds what can be sent again. Raises LedgerUnavailable."""

    def __init__(
        self,
        client: Client,
        settings: Settings,
        cipher: Opener,
        catalogues: Catalogues,
        selector: Selector,
    ) -> None:
        self._client = client
        self._settings = settings
        self._cipher = cipher
        self._catalogues = catalogues
        self._selector = selector

    def pages(self, wish: Wish, tally: Tally) -> Iterator[list[Old]]:
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

    def _read(self, ids: Sequence[str]) -> Iterator[Old | Left]:
        with mapped_errors(self._settings.redis_url):
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

    def _judge(self, row: _Stored, now_s: float) -> Old | Left:
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
        return Old(status, row.fields, row.payload, phone, code, row.kept, is_certain)

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


def _kept(payload: str | None) -> Sequence[str]:
    """Return what ends.lua keeps behind number and code; () where it is nothing."""
    try:
        kept = json.loads(payload or "[]")[2:]
    except (ValueError, TypeError):
        return ()
    return kept if len(kept) == len(("key", "fingerprint", "who", "hold")) else ()
