"""The ledger: the truth about every message, kept in Redis.

Each act that must be atomic is one Lua file in `lua/`, called by one method here. After the
entry (`smsq.ledger_writer`) nothing else writes these keys.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from itertools import chain
from typing import Any

from redis.exceptions import NoPermissionError, RedisError

from smsq import keys
from smsq.boottime import now_s
from smsq.cipher import FernetCipher, PlaintextCipher, Unreadable
from smsq.connection import Client, mapped_errors, run_and_wait
from smsq.contract import Lane, State
from smsq.errors import LedgerUnavailable
from smsq.ledger_writer import FIRST_CHECK_S
from smsq_worker.config.rules import Rules
from smsq_worker.domain.leases import LeaseExpired
from smsq_worker.domain.states import Outcome
from smsq_worker.infra import memory
from smsq_worker.ledger import timestamps
from smsq_worker.ledger.migrations import log_events, understood
from smsq_worker.ledger.scripts import Scripts
from smsq_worker.ledger.types import (
    CLAIM_AT_MOST,
    REPORTS_PER_MID,
    Admitted,
    AttemptResult,
    Decision,
    Due,
    Rejected,
    Report,
    RetryLater,
)

log = logging.getLogger(__name__)


class Ledger:
    """The acts on the ledger. Every method raises LedgerUnavailable where Redis fails."""

    def __init__(
        self, client: Client, rules: Rules, cipher: Callable[[], PlaintextCipher] = PlaintextCipher
    ) -> None:
        """`cipher` may raise SettingsError; then an act that needs it does nothing but that."""
        self._client = client
        self._rules = rules
        self._cipher = cipher
        self._told_of_plain = False
        scripts = Scripts(client, rules)
        self._admit = scripts.act("admit", also="window")
        self._depart = scripts.act("depart", also="window")
        self._record = scripts.act("record")
        self._report = scripts.act("report")
        self._decide = scripts.act("decide")
        self._claim = scripts.act("claim", also="sweep")
        self._in_hand = scripts.act("in_hand")
        self._take_in = scripts.plain("take_in")
        self._claim_reports = scripts.plain("claim_reports", also="apart")
        self._seal = scripts.plain("seal")

    def admit(self, message_id: str, *, turn: str = "") -> Admitted | RetryLater | Rejected:
        """Let a message go, if it may. `turn` is the one that was booked, once it has come."""
        (answer,) = self.admit_many([(message_id, turn)])
        return answer

    def admit_many(self, asks: Sequence[tuple[str, str]]) -> list[Admitted | RetryLater | Rejected]:
        """Let messages (id, turn) go, those that may, in order.

        There is no answer for those after one that must wait without a turn, or is paused.
        """
        # First of all: what nobody here can read must not be let go.
        cipher = self._cipher()
        answers: list[Admitted | RetryLater | Rejected] = []
        try:
            while len(answers) < len(asks):
                found, plain = self._admit_some(cipher, asks[len(answers) :])
                answers += found
                if plain is None:
                    break
                self._tell_of_plain()
                self._encrypt(cipher, asks[len(answers)][0], plain)
        except LedgerUnavailable:
            # Those that were let go by now have to be called.
            if not answers:
                raise
        return answers

    def _admit_some(
        self, cipher: PlaintextCipher, asks: Sequence[tuple[str, str]]
    ) -> tuple[list[Admitted | RetryLater | Rejected], str | None]:
        """Return answers, and the payload of the next message if that is to be encrypted first."""
        sealed = "1" if isinstance(cipher, FernetCipher) else ""
        asked_at, lease_ends = time.monotonic(), now_s() + self._rules.lease_s
        found, is_safe = self._run_safely(self._admit, sealed, *chain.from_iterable(asks))
        plain = found.pop()[1] if found[-1][0] == "plain" else None
        return [_admission(cipher, asked_at, lease_ends, is_safe, *one) for one in found], plain

    def depart(self, message_id: str, go: Admitted) -> float:
        """Give a call that is late another departure, by time.monotonic().

        Raises LeaseExpired where its attempt no longer holds.
        """
        asked_at = time.monotonic()
        (delay_us,) = self._run(self._depart, message_id, go.attempt, go.begun)
        if int(delay_us) < 0:
            raise LeaseExpired
        return asked_at + int(delay_us) / 1_000_000

    def record(self, message_id: str, attempt: int, outcome: Outcome, **more: Any) -> State | None:
        """Write down what one call came to, as `record_many` does."""
        (state,) = self.record_many([AttemptResult(message_id, attempt, outcome, **more)])
        return state

    def record_many(self, calls: Sequence[AttemptResult]) -> list[State | None]:
        """Write down what calls came to; give the states that follow, None where unknown."""
        states = self._run(self._record, json.dumps([_as_arguments(call) for call in calls]))
        return [None if state == "unknown" else State(state) for state in states]

    def report(self, mid: str, stat: str, report: Report) -> tuple[str, str | None]:
        """Apply a report, as `report_many` does."""
        ((state, message_id, _),) = self.report_many([(mid, stat, report)])
        return state, message_id

    def report_many(
        self, reports: Sequence[tuple[str, str, Report]]
    ) -> list[tuple[str, str | None, str | None]]:
        """Apply reports (mid, stat, what it means), in order.

        Gives of each (state, message id, its traceparent), or (why, None, None): "parked" where
        nobody knows its mid, "bad" where it was set aside. `mid` and `stat` are as they came, to
        find the report in the inbox.
        """
        for mid, _, report in reports:
            if report.suppress_ms or report.hold_ms:
                self._encrypt_message_of(mid)
        told = json.dumps(
            [
                (mid, _inbox_member(mid, stat), report.counted_as, _as_fields(report))
                for mid, stat, report in reports
            ]
        )
        answers = self._run(self._report, told, REPORTS_PER_MID)
        return [
            (state, message_id or None, trace[0] if trace else None)
            for state, message_id, *trace in answers
        ]

    def take_in(self, reports: Iterable[tuple[str, str]], *, wake_after_s: float) -> None:
        """Keep reports (mid, stat) safe until they are reconciled."""
        members = [_inbox_member(*report) for report in reports]
        args = (round(wake_after_s * 1000), *members)
        replicas = self._rules.wait_replicas
        with self._understood():
            _, is_safe = run_and_wait(
                self._client, self._take_in, args, replicas, keys=[keys.INBOX]
            )
        if not is_safe:
            raise LedgerUnavailable(f"{replicas} replicas did not have the reports in time")

    def decide(self, message_id: str, decision: Decision) -> tuple[str, State | None]:
        """Resend or drop a held message: ("done", "unknown", "not held" or "too late", state)."""
        told, state = self._run(self._decide, message_id, decision)
        return told, State(state) if state else None

    def held(self, at_most: int) -> list[tuple[str, datetime]]:
        """List held messages, the longest held first: (id, since when)."""
        return self._oldest(keys.HELD, at_most)

    def parked(self, at_most: int) -> list[tuple[str, datetime]]:
        """List mids whose reports are parked because nobody knows them: (mid, since when)."""
        return self._oldest(keys.PARKED, at_most)

    def parked_stats(self, mid: str) -> list[str]:
        """Give the stats of the reports that are parked for a mid."""
        with mapped_errors(self._rules.url):
            reports = self._client.lrange(keys.early(mid), 0, -1)
        return [str(json.loads(report)["stat"]) for report in reports]

    def claim(
        self,
        *,
        resend_wait_s: float,
        oldest: Mapping[Lane, Sequence[str]] | None = None,
        empty: Iterable[Lane] = (),
        can_publish: bool = True,
    ) -> Due:
        """Do what is due, and return which wake-ups are to be published.

        `oldest` has the ids of the oldest wake-up in the queues of lanes, or none where the queue
        is empty; `empty` names such lanes, too. Of others it is not known, and nothing is taken for
        lost. Without `can_publish` what is to be woken up stays due.
        """
        heads = dict(oldest or {}) | dict.fromkeys(empty, ())
        next_ms, lanes, rate, more, *pairs = self._run(
            self._claim,
            CLAIM_AT_MOST,
            FIRST_CHECK_S * 1000,
            round(resend_wait_s * 1000),
            json.dumps(heads),
            int(can_publish),
        )
        wake = tuple(zip(pairs[::2], map(Lane, pairs[1::2]), strict=True))
        next_s = None if int(next_ms) < 0 else int(next_ms) / 1000
        return Due(wake, next_s, lanes, float(rate), bool(more))

    def in_hand(self, ids: Sequence[str]) -> None:
        """Note that this process has the wake-ups of messages: they are not lost."""
        self._run(self._in_hand, FIRST_CHECK_S * 1000, *ids)

    def claim_reports(self, *, wake_after_s: float) -> list[tuple[str, str]]:
        """Give reports (mid, stat) whose wake-up was lost."""
        with self._understood():
            members = self._claim_reports(
                keys=[keys.INBOX], args=[CLAIM_AT_MOST, round(wake_after_s * 1000)]
            )
        return [(mid, stat) for mid, stat in map(json.loads, members)]

    def count(self, counts: Mapping[str, int]) -> None:
        """Add to counters that are newer than release 0.1.0."""
        with mapped_errors(self._rules.url), self._client.pipeline(transaction=True) as pipe:
            for name, more in counts.items():
                pipe.hincrby(keys.DURATIONS, name, more)
            pipe.execute()

    def counters(self) -> dict[str, int]:
        """Read all counters, those of durations too."""
        with mapped_errors(self._rules.url), self._client.pipeline(transaction=False) as pipe:
            for key in (keys.COUNTERS, keys.DURATIONS):
                pipe.hgetall(key)
            counters, durations = pipe.execute()
        counted = counters | durations | self._set_aside()
        return {str(name): int(value) for name, value in counted.items()}

    def _set_aside(self) -> dict[str, Any]:
        with mapped_errors(self._rules.url):
            try:
                found: Any = self._client.hgetall(keys.BAD_COUNTS)
            except NoPermissionError:  # of an ACL that was made for an older release
                return {}
        return {f"set_aside:{what}": count for what, count in found.items()}

    def count_set_aside(self, what: str, count: int) -> None:
        """Count what was set aside outside of the ledger, where Redis takes it."""
        with suppress(RedisError):
            self._client.hincrby(keys.BAD_COUNTS, what, count)

    def waiting(self) -> tuple[int, int]:
        """Count the held messages and the mids of parked reports."""
        with mapped_errors(self._rules.url):
            return self._client.zcard(keys.HELD), self._client.zcard(keys.PARKED)

    def ping(self) -> None:
        """Ask Redis whether it is there."""
        with mapped_errors(self._rules.url):
            self._client.ping()

    def is_full(self) -> bool:
        """Return whether Redis is at its memory limit, where it takes no message and no report."""
        with mapped_errors(self._rules.url):
            return memory.is_full(self._client)

    def _encrypt_message_of(self, mid: str) -> None:
        """Bring a message under the first key whose number is about to be kept for long."""
        cipher = self._cipher()
        if isinstance(cipher, FernetCipher):
            with mapped_errors(self._rules.url):
                _, _, message_id = str(self._client.get(keys.mid(mid)) or "").partition(" ")
                payload: Any = self._client.get(keys.payload(message_id))
            if payload:
                self._encrypt(cipher, message_id, payload)

    def _encrypt(self, cipher: PlaintextCipher, message_id: str, payload: str) -> None:
        """Encrypt a message that may be one from before there were keys."""
        phone, code = _opened(cipher, payload)
        if phone:
            with mapped_errors(self._rules.url):
                self._seal(
                    keys=[keys.message(message_id), keys.payload(message_id)],
                    args=[payload, cipher.seal(phone, code), cipher.phone_hash(phone)],
                )

    def _tell_of_plain(self) -> None:
        if not self._told_of_plain:
            self._told_of_plain = True
            log.warning(
                "messages come in plain text and are encrypted only here: they were sent before "
                "SMSQ_PAYLOAD_KEYS was set, or by a producer that does not have it"
            )

    def _oldest(self, key: str, at_most: int) -> list[tuple[str, datetime]]:
        with mapped_errors(self._rules.url):
            found: Any = self._client.zrange(key, 0, at_most - 1, withscores=True)
        return [(str(name), timestamps.at(since)) for name, since in found]

    def _run(self, script: Any, *args: str | float) -> Any:
        return self._run_safely(script, *args, replicas=0)[0]

    def _run_safely(
        self, script: Any, *args: str | float, replicas: int | None = None
    ) -> tuple[Any, bool]:
        """Run an act; give its answer, and whether enough replicas have what it wrote."""
        if replicas is None:
            replicas = self._rules.wait_replicas
        with self._understood():
            (events, *answer), is_safe = run_and_wait(self._client, script, args, replicas)
        # Told to the one whose act brought it about, so that it is logged once.
        log_events(events)
        return answer, is_safe

    @contextmanager
    def _understood(self) -> Iterator[None]:
        try:
            with mapped_errors(self._rules.url):
                yield
        except LedgerUnavailable as error:
            raise understood(error, self._rules.url) from error.__cause__


def _admission(
    cipher: PlaintextCipher,
    asked_at: float,
    lease_ends: float,
    is_safe: bool,
    told: str,
    *rest: Any,
) -> Admitted | RetryLater | Rejected:
    if told == "go":
        attempt, payload, template, delay_us, begun, *trace = rest
        phone, code = _opened(cipher, payload)
        departs_at = asked_at + int(delay_us) / 1_000_000 if delay_us else None
        sent_with = trace[0] if trace else None
        return Admitted(
            int(attempt),
            phone,
            template,
            code,
            departs_at,
            sent_with,
            int(begun),
            is_safe,
            lease_ends,
        )
    if told in {"wait", "booked"}:
        return RetryLater(int(rest[0]) / 1_000_000, *rest[1:])
    return Rejected(told, State(rest[0]) if rest else None)


def _opened(cipher: PlaintextCipher, payload: str) -> tuple[str, str]:
    try:
        return cipher.open(payload)
    except (Unreadable, ValueError, TypeError):  # the latter two: of what nobody of ours wrote
        return "", ""


def _as_arguments(call: AttemptResult) -> tuple[str | int | bool, ...]:
    return (
        call.message_id,
        call.attempt,
        call.outcome,
        call.detail,
        call.mid,
        round(call.wait_s * 1000),
        call.trouble,
        call.too_fast,
        call.begun,
    )


def _as_fields(report: Report) -> dict[str, str | int | bool]:
    return {
        "stat": report.stat,
        "class": report.code_class,
        "wait_ms": report.wait_ms,
        "maybe_sent": report.maybe_sent,
        "pause": report.pause,
        "suppress_ms": report.suppress_ms,
        "hold_ms": report.hold_ms,
        "slow_down": report.slow_down,
    }


def _inbox_member(mid: str, stat: str) -> str:
    return json.dumps([mid, stat])
