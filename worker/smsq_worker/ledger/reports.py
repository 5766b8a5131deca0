"""The acts of delivery reports: taken in, applied or parked; claimed where they were not."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

from smsq import keys
from smsq.errors import LedgerUnavailable
from smsq.ledger_writer import WakeUp
from smsq_worker.domain.reports import Report
from smsq_worker.ledger.payloads import EncryptingActs
from smsq_worker.ledger.types import (
    CLAIM_AT_MOST,
    INBOX_AT_MOST,
    INBOX_UNKNOWN,
    REPORTS_PER_MID,
    WOKEN_AT_ONCE,
    TakenIn,
)

NO_WAKEUP: Final = WakeUp("", "")
"""Where the caller publishes."""


class ReportActs(EncryptingActs):
    """What a report passes between the API and its message."""

    def take_in(
        self,
        reports: Sequence[tuple[str, str]],
        *,
        wake_after_s: float,
        wakeup: WakeUp = NO_WAKEUP,
        only_known: bool = False,
    ) -> TakenIn:
        """Keep reports (mid, stat) safe until they are reconciled, as many as there is room for.

        `wakeup` is from `smsq.wakeup`, where broker and ledger are one Redis: the act pushes it.
        Raises LedgerFull where Redis is at its memory limit, unless `only_known`: those whose mid a
        message has are taken there, too, but without a wake-up, for which there is no room.
        """
        replicas = self._rules.wait_replicas
        found, is_safe = self._run_plain(
            "take_in_known" if only_known else "take_in",
            round(wake_after_s * 1000),
            f"{INBOX_UNKNOWN} {INBOX_AT_MOST}",
            WOKEN_AT_ONCE,
            *wakeup,
            *(_inbox_member(*report) for report in reports),
            keys=[keys.INBOX],
            replicas=replicas,
        )
        if not is_safe:
            raise LedgerUnavailable(f"{replicas} replicas did not have the reports in time")
        return TakenIn(*([reports[n] for n in numbers] for numbers in found))

    def claim_reports(self, *, wake_after_s: float) -> list[tuple[str, str]]:
        """Return reports (mid, stat) whose wake-up was lost."""
        args = (CLAIM_AT_MOST, round(wake_after_s * 1000))
        members, _ = self._run_plain("claim_reports", *args, keys=[keys.INBOX])
        return [(mid, stat) for mid, stat in map(json.loads, members)]

    def report(self, mid: str, stat: str, report: Report) -> tuple[str, str | None]:
        """Apply a report, as `report_many` does."""
        ((state, message_id, _),) = self.report_many([(mid, stat, report)])
        return state, message_id

    def report_many(
        self, reports: Sequence[tuple[str, str, Report]]
    ) -> list[tuple[str, str | None, str | None]]:
        """Apply reports (mid, stat, what it means), in order.

        Returns for each (state, message id, its traceparent), or (why, None, None): "parked" where
        its mid is not known, "bad" where it was set aside. `mid` and `stat` are as they came, to
        find the report in the inbox.
        """
        for mid, _, report in reports:
            if report.suppress_ms or report.hold_ms:
                self._encrypt_message_of(mid)
        meanings = {report: n for n, report in enumerate(dict.fromkeys(r for *_, r in reports), 1)}
        given = [
            [(report.counted_as, self._as_fields(report)) for report in meanings],
            [(mid, _inbox_member(mid, stat), meanings[report]) for mid, stat, report in reports],
        ]
        answers = self._run("report", json.dumps(given), REPORTS_PER_MID)
        return [
            (state, message_id or None, trace[0] if trace else None)
            for state, message_id, *trace in answers
        ]

    def _as_fields(self, report: Report) -> dict[str, object]:
        """Return what a report means. This is parked, so older and newer releases read it."""
        more = {
            "suppress_lanes": report.suppress_lanes,
            "raw": report.raw,
            "unlisted": report.unlisted,
            # Why, where it can lead to another account.
            "scope": self._rules.accounts and report.scope,
        }
        return {name: value for name, value in more.items() if value} | {
            "stat": report.stat,
            "class": report.code_class,
            "wait_ms": report.wait_ms,
            "maybe_sent": report.maybe_sent,
            "pause": report.pause,
            "suppress_ms": report.suppress_ms,
            "hold_ms": report.hold_ms,
            "slow_down": report.slow_down,
        }

    def parked_stats(self, mid: str) -> list[str]:
        """Return the stats of the reports that are parked for a mid."""
        reports: Any = self._ask(self._client.lrange, keys.early(mid), 0, -1)
        return [_stat(report) for report in reports]


def _stat(parked: str | bytes) -> str:
    try:
        return str(json.loads(parked)["stat"])
    except (ValueError, KeyError, TypeError):
        return "malformed"


def _inbox_member(mid: str, stat: str) -> str:
    return json.dumps([mid, stat])
