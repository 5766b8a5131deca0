"""The second pass: rows go to the ledger, and what went is noted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

from smsq import Duplicate, InvalidMessage, KeyConflict, send_many
from smsq.contract import FILE_SPACE, Message
from smsq_worker.bulk_import.campaign import Campaign
from smsq_worker.bulk_import.rows import Row
from smsq_worker.bulk_import.source import BadFile, Source

BATCH: Final = 100
"""Rows in one round trip, and at most in doubt after a crash."""


class BulkSender:
    """Sends the rows of one file once."""

    def __init__(
        self, campaign: Campaign, source: Source, refused: Callable[[int, str], None]
    ) -> None:
        """`refused` is told the line and the reason of a row whose key has another message."""
        self._campaign = campaign
        self._source = source
        self._refused = refused
        self._fingerprint = source.fingerprint()
        self._line = campaign.noted.line
        self._under_way: dict[int, tuple[int, bool]] = {}
        """Of the rows of a batch, by their number: line, and whether the key is its own."""
        self._holders: dict[str, str] = {}

    def send(
        self, rows: Iterable[Row], key: Callable[[Row], str] | None, seen: Callable[[int], None]
    ) -> None:
        """Enqueue the good rows that are not noted yet; `key` gives the key of one without.

        `seen` is told how many are enqueued. Raises BadFile where the file changes meanwhile,
        and LedgerUnavailable; what is noted is enqueued then, and the batch after it perhaps.
        """
        noted = self._campaign.noted

        def written(ids: Sequence[str]) -> None:
            self._note(ids)
            seen(noted.done)

        send_many(
            self._feed(rows, key),
            batch_size=BATCH,
            on_batch=written,
            on_invalid=self._conflict,
            on_duplicate=self._duplicate,
        )

    def _feed(self, rows: Iterable[Row], key: Callable[[Row], str] | None) -> Iterator[Message]:
        done, count = self._line, 0
        for row in rows:
            if row.line <= done or row.problem or row.message is None:
                continue
            if self._source.seekable and self._source.fingerprint() != self._fingerprint:
                raise BadFile("somebody changes the file while it is sent")
            own = row.message.key is not None
            self._line = row.line
            self._under_way[count] = row.line, own
            count += 1
            if own or key is None:
                yield row.message
            else:
                yield replace(row.message, key=key(row), key_space=FILE_SPACE)

    def _conflict(self, index: int, _: Any, error: InvalidMessage) -> None:
        """Leave a row out, as it would never go: another message holds its key."""
        if not isinstance(error, KeyConflict):
            raise error
        line, _ = self._under_way.pop(index)
        self._campaign.noted.duplicates += 1
        self._refused(line, str(error))

    def _duplicate(self, found: Duplicate) -> None:
        self._holders[found.id] = found.duplicate_of

    def _note(self, ids: Sequence[str]) -> None:
        """Note a batch, with the earlier message's id where a row was enqueued before."""
        noted = self._campaign.noted
        kept = []
        for one, (_, own) in zip(ids, self._under_way.values(), strict=True):
            holder = self._holders.get(one)
            if holder is None:
                noted.enqueued += 1
            elif own:
                noted.duplicates += 1
            else:
                noted.before += 1
            kept.append(holder if holder and not own else one)
        self._under_way.clear()
        self._holders.clear()
        self._campaign.note(self._line, kept)
