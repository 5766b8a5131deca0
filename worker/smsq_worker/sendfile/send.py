"""The second pass: rows go to the ledger, and what went is noted."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

from smsq import send_many
from smsq.connection import Client
from smsq.contract import State
from smsq_worker.sendfile.campaign import Campaign
from smsq_worker.sendfile.rows import Row
from smsq_worker.sendfile.source import BadFile, Source
from smsq_worker.sendfile.states import read_states

BATCH: Final = 100
"""Rows in one round trip, and at most in doubt after a crash."""


class Sender:
    """Sends the rows of one file once."""

    def __init__(self, client: Client, url: str, campaign: Campaign, source: Source) -> None:
        self._client = client
        self._url = url
        self._campaign = campaign
        self._source = source
        self._fingerprint = source.fingerprint()
        self._under_way: deque[tuple[int, bool]] = deque()

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

        send_many(self._feed(rows, key), batch_size=BATCH, on_batch=written)

    def _feed(
        self, rows: Iterable[Row], key: Callable[[Row], str] | None
    ) -> Iterator[dict[str, Any]]:
        done = self._campaign.noted.line
        for row in rows:
            if row.line <= done or row.problem:
                continue
            if self._source.seekable and self._source.fingerprint() != self._fingerprint:
                raise BadFile("somebody changes the file while it is sent")
            own = "key" in row.given
            self._under_way.append((row.line, own))
            yield row.given if own or key is None else row.given | {"key": key(row)}

    def _note(self, ids: Sequence[str]) -> None:
        """Note a batch, with the earlier message's id where a row was enqueued before."""
        noted = self._campaign.noted
        kept = []
        line = noted.line
        for one, standing in zip(ids, read_states(self._client, self._url, ids), strict=True):
            line, own = self._under_way.popleft()
            if standing.state is not State.DUPLICATE:
                noted.enqueued += 1
            elif own:
                noted.duplicates += 1
            else:
                noted.before += 1
            kept.append(standing.holder if standing.holder and not own else one)
        self._campaign.note(line, kept)
