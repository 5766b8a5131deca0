"""What `smsq send-file` says of a file: as JSON, and in words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from smsq.contract import mask_phone
from smsq_worker.bulk_import.check import SHOWN, Checked
from smsq_worker.inspection.formatting import span
from smsq_worker.ledger.admin import Rate


@dataclass(slots=True)
class Conflicts:
    """Rows that were left out, because their key is that of another message."""

    count: int = 0
    first: list[dict[str, Any]] = field(default_factory=list)

    def add(self, line: int, why: str) -> None:
        """Count a row; only the first are kept."""
        self.count += 1
        if len(self.first) < SHOWN:
            self.first.append({"line": line, "reason": why})

    def told(self) -> dict[str, Any]:
        """Return what there is to say; nothing where no row was left out."""
        return {"key_conflicts": self.count, "conflict_rows": self.first} if self.count else {}


def checked(found: Checked) -> dict[str, Any]:
    """Give what the check found."""
    return {
        "rows": found.rows,
        "bad": found.bad,
        "reasons": dict(found.reasons.most_common()),
        "bad_rows": [{"line": line, "reason": why} for line, why in found.first],
    }


def would_be(
    found: Checked, doubles: tuple[int, list[tuple[int, str]]], suppressed: int, rate: Rate
) -> dict[str, Any]:
    """Give what a run would do."""
    to_send = found.good - suppressed
    seconds = to_send / rate.now
    count, first = doubles
    return {
        "doubles": count,
        "double_rows": [{"line": line, "phone": mask_phone(phone)} for line, phone in first],
        "suppressed": suppressed,
        "would_be_sent": to_send,
        "rate_per_s": rate.now,
        "seconds": round(seconds, 1),
        "expiring": seconds > found.least_ttl_s,
    }


def words(told: dict[str, Any]) -> Iterator[str]:
    """Put what the above, and a run, give into lines."""
    if "rows" in told:
        yield from _rows(told)
    if "doubles" in told:
        yield from _dry(told)
    if "enqueued" in told:
        yield from _sent(told)


def _rows(told: dict[str, Any]) -> Iterator[str]:
    yield f"rows        {told['rows']}"
    yield f"bad         {told['bad']}"
    for why, count in told["reasons"].items():
        yield f"  {count} x {why}"
    for row in told["bad_rows"]:
        yield f"  line {row['line']}: {row['reason']}"


def _dry(told: dict[str, Any]) -> Iterator[str]:
    yield f"doubles     {told['doubles']} rows have a number that came before; they would be sent"
    for row in told["double_rows"]:
        yield f"  line {row['line']}: {row['phone']}"
    yield f"suppressed  {told['suppressed']}"
    yield (
        f"would send  {told['would_be_sent']}, in {span(told['seconds'])} "
        f"at {told['rate_per_s']:g}/s; nothing was sent"
    )
    if told["expiring"]:
        yield "            That is longer than the shortest ttl_s: some would expire unsent"


def _sent(told: dict[str, Any]) -> Iterator[str]:
    before = f", {told['before']} of them by a run before" * bool(told["before"])
    yield f"enqueued    {told['enqueued']}{before}"
    yield f"duplicates  {told['duplicates']}"
    if "key_conflicts" in told:
        yield f"  {told['key_conflicts']} of them with a key of another message; they are not sent"
    for row in told.get("conflict_rows", ()):
        yield f"  line {row['line']}: {row['reason']}"
    yield f"ids         {told['ids']}"
    for state, count in sorted(told.get("states", {}).items()):
        yield f"{state:<11} {count}"
