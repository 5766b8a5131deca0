"""The outbox of a test: what was sent, and the end that the test decides."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final, Literal, overload

from smsq import ledgers
from smsq.contract import Lane, parse_lane, parse_phone
from smsq.ids import parse_id
from smsq.memory import Rules, host_tasks
from smsq.memory.campaigns import Deed, do, waits
from smsq.memory.endings import decide, run_out_of_ttl
from smsq.memory.reports import report
from smsq.memory.rules import DELIVRD
from smsq.memory.sending import admit, record
from smsq.testing.codes import meaning_of, similar
from smsq.testing.ledger import OutboxLedger, SentMessage

_DAY_S: Final = 86_400.0


@contextmanager
def outbox(rules: Rules | None = None) -> Iterator[Outbox]:
    """Make all of smsq in this process write to an outbox while the block runs.

    That is so in every thread and every async task. An outbox inside another takes its place until
    it ends. `rules` are what a worker's settings would say.
    """
    ledger = OutboxLedger(rules)
    with ledgers.replaced_by(ledger):
        yield Outbox(ledger)


class Outbox(Sequence[SentMessage]):
    """What was sent, the oldest first; duplicates are not, as they are not sent.

    A test takes the parts of worker, gateway and operator. `what` is an id, or what has one: the
    result of `delay`, or a message of the outbox. How an act ends a message is sent to its `notify`
    task at once, in this thread.
    """

    def __init__(self, ledger: OutboxLedger) -> None:
        self._ledger = ledger

    def __len__(self) -> int:
        return len(self._ledger.sent)

    @overload
    def __getitem__(self, index: int) -> SentMessage: ...
    @overload
    def __getitem__(self, index: slice) -> list[SentMessage]: ...
    def __getitem__(self, index: int | slice) -> SentMessage | list[SentMessage]:
        return [*self._ledger.sent][index]

    def __iter__(self) -> Iterator[SentMessage]:
        return iter([*self._ledger.sent])

    def __repr__(self) -> str:
        return f"<Outbox {[*self]!r}>"

    def to(self, phone: str) -> list[SentMessage]:
        """Return what was sent to a number, however it is written."""
        digits = parse_phone(phone)
        return [one for one in self if one.phone == digits]

    def clear(self) -> None:
        """Forget what was sent so far; `status` and keys still know it."""
        self._ledger.sent.clear()

    # What worker and gateway do

    def accept(self, what: Any) -> None:
        """Accept a message as the gateway does; no report has come yet."""
        self._mid_of(what, "accepted")
        self._tell()

    def deliver(self, what: Any) -> None:
        """Send a message and report it as delivered, also late, after it failed.

        Raises AssertionError where it cannot be: it is suppressed, say, or too frequent.
        """
        self._ledger.act(report, self._mid_of(what, "delivered"), DELIVRD)
        self._tell()

    def fail(self, what: Any, reason: str) -> None:
        """Fail a message: by a report's stat code, or by "gateway:..." as a refused request.

        "report:MA:0001", as the reason of a status has it, is the code MA:0001.

        What else the code means follows too: MA:0001 suppresses the number on lane bulk. One that
        would only lead to a resend ends it here, as if its resends were used up; see `report`.
        """
        if reason.startswith("gateway:"):
            message_id = _id_of(what)
            attempt = self._attempt_of(message_id, "refused")
            self._ledger.act(record, message_id, attempt, "refused", detail=reason)
        else:
            meaning = meaning_of(reason.removeprefix("report:"))
            if meaning.code_class not in {"permanent", "transient"}:
                raise ValueError(
                    f"stat {meaning.stat} is of class {meaning.code_class} and fails no message; "
                    f"{similar(meaning.stat)}MA:0001 does, and all that `smsq codes` shows as "
                    "permanent or transient"
                )
            final = replace(meaning, code_class="permanent")
            if self._ledger.act(report, self._mid_of(what, "failed"), final) != "failed":
                raise self._cannot_be(_id_of(what), "failed")
        self._tell()

    def report(self, what: Any, stat: str) -> None:
        """Report on a message, with all that the stat code means: a resend, say.

        A message that was not sent yet is sent first. Reports may come twice, and late.
        """
        self._ledger.act(report, self._mid_of(what, "reported"), meaning_of(stat))
        self._tell()

    def doubt(self, what: Any) -> None:
        """Time a message's request out: it may or may not have been sent.

        Its `on_ambiguous` decides: it is deferred, for a resend after `advance(60)`, or held.
        """
        message_id = _id_of(what)
        attempt = self._attempt_of(message_id, "in doubt")
        detail = "network: the test said so"
        self._ledger.act(record, message_id, attempt, "maybe_sent", detail=detail, wait_s=60)
        self._tell()

    def expire(self, what: Any) -> None:
        """Expire a message before it is sent."""
        message_id = _id_of(what)
        if not self._ledger.act(run_out_of_ttl, message_id):
            raise self._cannot_be(message_id, "expired")
        self._tell()

    def advance(self, seconds: float = 0) -> None:
        """Advance the clock: ttls, send_at, resends, missing reports, keys, suppressions."""
        self._ledger.advance(seconds)
        self._tell()

    def unavailable(self, calls: int = 1, *, entered: bool = False) -> None:
        """Make the backend's next calls raise LedgerUnavailable: `delay`, `status` and the others.

        With `entered` the message is in all the same, and only the answer was lost.
        """
        self._ledger.fail(calls, entered=entered)

    # What an operator does

    def suppress(
        self,
        phone: str,
        reason: str = "by hand",
        *,
        seconds: float = _DAY_S,
        lanes: Sequence[str] = (),
    ) -> None:
        """Send nothing to a number for a time, in some lanes or in all."""
        of: list[Lane] = [parse_lane(lane) for lane in lanes]
        self._ledger.suppress(parse_phone(phone), reason, seconds, of)

    def decide(self, what: Any, decision: Literal["resend", "drop"]) -> None:
        """Resend or drop a held message."""
        message_id = _id_of(what)
        answer = self._ledger.act(decide, message_id, decision)
        if answer != "done":
            raise self._cannot_be(message_id, f"decided on ({answer})")
        self._tell()

    def pause_campaign(self, name: str) -> None:
        """Pause a campaign: its messages wait until it is resumed; their ttl runs on."""
        self._do("pause", name)

    def resume_campaign(self, name: str) -> None:
        """Resume a paused campaign."""
        self._do("resume", name)

    def cancel_campaign(self, name: str) -> None:
        """Cancel a campaign: its messages that wait end, and what joins it raises."""
        self._do("cancel", name)

    def _do(self, deed: Deed, name: str) -> None:
        was = self._ledger.act(do, deed, name)
        if was == "unknown":
            raise AssertionError(f"the outbox has no campaign {name}")
        if was == "cancelled" and deed != "cancel":
            raise AssertionError(f"campaign {name} was cancelled, and stays so")
        self.advance()

    def _attempt_of(self, message_id: str, what: str) -> int:
        """Return the attempt that is under way or in doubt, or begin one."""
        status = self._ledger.look_up(message_id)
        last = status.attempts[-1] if status and status.attempts else None
        if last and last.outcome in {None, "maybe_sent"} and status and status.state != "queued":
            return last.n
        attempt = self._ledger.act(admit, message_id)
        if isinstance(attempt, int):
            return attempt
        self._tell()
        raise self._cannot_be(message_id, what)

    def _mid_of(self, what: Any, done: str) -> str:
        """Return the mid of the last attempt, which the gateway accepts where it has not."""
        message_id = _id_of(what)
        status = self._ledger.look_up(message_id)
        last = status.attempts[-1] if status and status.attempts else None
        if last and last.mid and status and status.state != "queued":
            return last.mid
        attempt = self._attempt_of(message_id, done)
        mid = f"outbox.{attempt}.{message_id}"
        self._ledger.act(record, message_id, attempt, "accepted", mid=mid)
        return mid

    def _cannot_be(self, message_id: str, what: str) -> AssertionError:
        status = self._ledger.look_up(message_id)
        if status is None:
            return AssertionError(f"the outbox has no message {message_id}")
        why = f" ({status.reason or status.detail})" if status.reason or status.detail else ""
        hint = ""
        if self._ledger.act(waits, message_id):
            hint = f"; its campaign is paused: box.resume_campaign({status.campaign!r})"
        elif status.state == "deferred":
            hint = "; let its time come with box.advance(seconds)"
        if status.allowed_at:
            hint = (
                "; SMSQ_PHONE_LIMITS allows one otp a minute to a number: box.advance(60) between "
                "them, or outbox(Rules(phone_limits=()))"
            )
        return AssertionError(
            f"message {message_id} cannot be {what}: it is {status.state}{why}{hint}"
        )

    def _tell(self) -> None:
        for ended in self._ledger.ended():
            host_tasks.call(ended)


def _id_of(what: Any) -> str:
    return parse_id(what if isinstance(what, str) else getattr(what, "id", what))
