"""Messages that failed, or of which nobody knows: why, and which row of a file each is from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from math import inf
from typing import Final

from smsq import keys
from smsq.campaigns import reading_apparent
from smsq.compaction import unfolded
from smsq.connection import Client, perform
from smsq.contract import State
from smsq_worker.ledger.campaigns import Campaign
from smsq_worker.ledger.reading import asked, each
from smsq_worker.ledger.selecting import Selection, Selector

FAILED: Final = (State.FAILED, State.EXPIRED, State.UNREPORTED, State.CANCELLED, State.HELD)
FORGOTTEN: Final = "unknown"
"""Stands for the state of a message that the ledger has forgotten."""
_BATCH: Final = 500
_AT_MOST: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Failure:
    """A message that failed; its number is masked."""

    id: str
    row: int | None
    """The line of its row; None where that is unknown."""
    state: str
    reason: str = ""
    phone: str = ""
    template: str = ""
    reference: str = ""
    campaign: str = ""


def failures_among(client: Client, url: str, ids: Iterable[str]) -> Iterator[Failure]:
    """Yield those of messages that failed or are forgotten, in their order.

    Raises LedgerUnavailable.
    """
    rest = iter(ids)
    while batch := list(islice(rest, _BATCH)):
        found = asked(url, each, client, "HGETALL", map(keys.message, batch))
        for message_id, stored in zip(batch, found, strict=True):
            fields = unfolded(stored)
            if fields:
                fields = perform(client, reading_apparent(url, fields))
            state = fields.get("state", FORGOTTEN)
            if state in {*FAILED, FORGOTTEN}:
                names = ("reason", "phone", "template", "reference", "campaign")
                texts = {name: fields.get(name, "") for name in names}
                row = int(fields["row"]) if "row" in fields else None
                yield Failure(message_id, row, state, **texts)


def failures_of(client: Client, url: str, selector: Selector, campaign: Campaign) -> list[Failure]:
    """Return the messages of a campaign that failed by now, in the order of their rows.

    Takes some 500 bytes each. Raises LedgerUnavailable.
    """
    selection = Selection({"campaign": [campaign.name], "state": [str(one) for one in FAILED]})
    ids = [one for one, _at in selector.page(selection, _AT_MOST).rows]
    if len(ids) < sum(campaign.states.get(str(one), 0) for one in FAILED):  # SMSQ_INDEX=0
        ids = [one for one, _at in selector.page(selection, _AT_MOST, scan=True).rows]
    found = failures_among(client, url, reversed(ids))
    own = [one for one in found if one.campaign == campaign.name]  # A * in a name is any text.
    return sorted(own, key=lambda one: inf if one.row is None else one.row)
