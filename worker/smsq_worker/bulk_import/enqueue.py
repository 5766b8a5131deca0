"""The second pass: rows go to the ledger, and the checkpoint advances."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

from smsq import Duplicate, InvalidMessage, KeyConflict, send_many
from smsq.contract import FILE_SPACE, Message
from smsq_worker.bulk_import.checkpoint import Checkpoint
from smsq_worker.bulk_import.rows import Row
from smsq_worker.bulk_import.source import BadFile, Source

BATCH: Final = 100
"""Rows in one round trip, and at most in doubt after a crash."""


class Enqueuer:
    """Enqueues the rows of one file once."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        source: Source,
        refused: Callable[[int, str], None],
        campaign: str | None = None,
    ) -> None:
        """`refused` gets the line and the reason where another message has a row's key."""
        self._checkpoint = checkpoint
        self._source = source
        self._refused = refused
        self._campaign = campaign
        self._fingerprint = source.fingerprint()
        self._line = checkpoint.progress.line
        self._under_way: dict[int, tuple[int, bool]] = {}
        """Of a batch's rows, by index: the line, and whether the row brought its own key."""
        self._holders: dict[str, str] = {}

    def enqueue(
        self, rows: Iterable[Row], key: Callable[[Row], str] | None, seen: Callable[[int], None]
    ) -> None:
        """Enqueue the good rows that are not recorded yet; `key` makes the key of one without.

        `seen` is called with how many are enqueued. Raises BadFile where the file changes
        meanwhile, and LedgerUnavailable; then the next batch may have been enqueued too.
        Raises CampaignCancelled.
        """

        def written(ids: Sequence[str]) -> None:
            self._record(ids)
            seen(self._checkpoint.progress.done)

        send_many(
            self._feed(rows, key),
            batch_size=BATCH,
            on_batch=written,
            on_invalid=self._conflict,
            on_duplicate=self._duplicate,
            campaign=self._campaign,
        )

    def _feed(self, rows: Iterable[Row], key: Callable[[Row], str] | None) -> Iterator[Message]:
        done, count = self._line, 0
        for row in rows:
            if row.line <= done or row.problem or row.message is None:
                continue
            if self._source.seekable and self._source.fingerprint() != self._fingerprint:
                raise BadFile("the file was changed while it was sent")
            own = row.message.key is not None
            self._line = row.line
            self._under_way[count] = row.line, own
            count += 1
            message = replace(row.message, row=row.line)
            if own or key is None:
                yield message
            else:
                yield replace(message, key=key(row), key_space=FILE_SPACE)

    def _conflict(self, index: int, _: Any, error: InvalidMessage) -> None:
        """Leave out a row that could never be sent: another message holds its key."""
        if not isinstance(error, KeyConflict):
            raise error
        line, _ = self._under_way.pop(index)
        self._checkpoint.progress.duplicates += 1
        self._refused(line, str(error))

    def _duplicate(self, found: Duplicate) -> None:
        self._holders[found.id] = found.duplicate_of

    def _record(self, ids: Sequence[str]) -> None:
        """Record a batch, with the earlier message's id where a row was enqueued before."""
        progress = self._checkpoint.progress
        kept = []
        for one, (_, own) in zip(ids, self._under_way.values(), strict=True):
            holder = self._holders.get(one)
            if holder is None:
                progress.enqueued += 1
            elif own:
                progress.duplicates += 1
            else:
                progress.before += 1
            kept.append(holder if holder and not own else one)
        self._under_way.clear()
        self._holders.clear()
        self._checkpoint.advance(self._line, kept)
