"""Sending again what certainly did not arrive, once, whoever dies in the middle.

Each message is sent again as another, whose id follows from its own: so whoever repeats a redo
means the same ones. First redo.lua notes this of the old one, then the new one is entered as any
message.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Final, TypeAlias

from smsq.cipher import Opener, PlaintextCipher, to_json
from smsq.connection import Client
from smsq.contract import Lane, Message, OnAmbiguous
from smsq.entries import Entered, Origin, as_entry
from smsq.errors import KeyConflict
from smsq.failpoints import reached
from smsq_worker.config.settings import Settings
from smsq_worker.domain.codes import Catalogues
from smsq_worker.ledger.acts import Acts
from smsq_worker.ledger.audit import add_act
from smsq_worker.ledger.redoable import Finder, Left, Old, Tally, Wish, redone_as
from smsq_worker.ledger.selecting import Selector

BATCH: Final = 50
"""Messages in one act, and at most half done where a process dies."""

Enter: TypeAlias = Callable[[Sequence[tuple[Any, ...]]], list[Entered | KeyConflict]]
"""Writes entries of enqueue.lua, and wakes up their messages."""


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
        cipher = Opener(client, settings, strict=True)
        super().__init__(client, settings.rules, cipher)
        self._finder = Finder(client, settings, cipher, catalogues, selector)
        self._enter = enter

    def survey(self, wish: Wish) -> Tally:
        """Return what `run` would take, and send nothing."""
        tally = Tally()
        for page in self._finder.pages(wish, tally):
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
        for page in self._finder.pages(wish, tally):
            for start in range(0, len(page), BATCH):
                self._send(page[start : start + BATCH], entry, tally)
                told(tally.taken.total())
        return tally

    def _send(
        self, batch: Sequence[Old], entry: Callable[[Old], tuple[Any, ...]], tally: Tally
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

    def _noted(self, batch: Sequence[Old], tally: Tally) -> Iterator[Old]:
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


def _entry(
    cipher: PlaintextCipher, old: Old, *, campaign: str, who: str, ttl_s: float | None
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
