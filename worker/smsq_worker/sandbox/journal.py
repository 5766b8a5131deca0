"""What the sandbox accepted: the truth about duplicates.

In memory by number and, with a path, a line of JSON for each accepted request:

    {"phone", "outcome", "at": "2025-07-06T08:00:00.000+00:00", "mid", "template"}

and where it plays one of several accounts, "account".

The file holds complete phone numbers and only its owner can read it. Neither holds the value of
the template's variable. The file of an earlier run is appended to, not read.
"""

from __future__ import annotations

import json
import secrets
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any


def new_mid() -> str:
    """Return 16 upper-case hex digits, as the vendor's mids look."""
    return secrets.token_hex(8).upper()


class Journal:
    """Counts of all requests, and a list of the accepted ones.

    Written by the server's thread only. Any thread may read `total` and call `number_summary`,
    which touches one entry.
    """

    def __init__(self, path: Path | None = None, account: str = "") -> None:
        self._path = path
        self._account = {"account": account} if account else {}
        self._file: IO[str] | None = None
        self._accepted: dict[str, list[dict[str, str]]] = {}
        """By number: what the vendor would have sent and charged for."""
        self._requests: Counter[str] = Counter()
        self._outcomes: Counter[str] = Counter()
        self.total = 0

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Keep the file open, if there is one. Raises OSError if it cannot be written."""
        if self._path is None:
            yield
            return
        self._path.touch(mode=0o600)
        # Line-buffered: a request is in the file before its response.
        with self._path.open("a", buffering=1, encoding="utf-8") as file:
            self._file = file
            try:
                yield
            finally:
                self._file = None

    def count_request(self, phone: str, outcome: str) -> int:
        """Count a valid request; return how many there have been for this number, including it."""
        self._outcomes[outcome] += 1
        self._requests[phone] += 1
        return self._requests[phone]

    def count_refusal(self, reason: str) -> None:
        """Count a request that was refused before its number was looked at."""
        self._outcomes[reason] += 1

    def accept(self, phone: str, template: str, outcome: str) -> str:
        """Record an accepted request and return its new mid."""
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        entry = {"at": at, "mid": new_mid(), "template": template}
        self._accepted.setdefault(phone, []).append(entry)
        self.total += 1
        if self._file is not None:
            line = {"phone": phone, "outcome": outcome, **entry, **self._account}
            self._file.write(json.dumps(line, ensure_ascii=False) + "\n")
        return entry["mid"]

    def accepted_summary(self) -> dict[str, Any]:
        """Return {"total", "numbers": {phone: count}}."""
        numbers = {phone: len(entries) for phone, entries in self._accepted.items()}
        return {"total": self.total, "numbers": numbers}

    def number_summary(self, phone: str) -> dict[str, Any]:
        """Return {"phone", "count", "mids", "accepted"}, oldest first; zero for one never seen."""
        entries = [*self._accepted.get(phone, ())]
        return {
            "phone": phone,
            "count": len(entries),
            "mids": [entry["mid"] for entry in entries],
            "accepted": entries,
        }

    def calls_summary(self) -> dict[str, Any]:
        """Return {"total", "outcomes": {name: count}, "numbers": {phone: count}}.

        `total` and `outcomes` count all requests, `numbers` only the valid ones.
        """
        return {
            "total": self._outcomes.total(),
            "outcomes": dict(self._outcomes),
            "numbers": dict(self._requests),
        }
