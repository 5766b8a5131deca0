"""The acts of the scheduler, and of an operator who decides what has no timer: held messages."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

from smsq.contract import Lane, State
from smsq.ledger_writer import FIRST_CHECK_S
from smsq_worker.ledger.acts import Acts
from smsq_worker.ledger.types import CLAIM_AT_MOST, Decision, Due, OtherRate


class TimerActs(Acts):
    """What happens to messages later."""

    def claim(
        self,
        *,
        resend_wait_s: float,
        oldest: Mapping[Lane, Sequence[str]] | None = None,
        empty: Iterable[Lane] = (),
        can_publish: bool = True,
        wakeups: str = "",
    ) -> Due:
        """Run what is due, and return which wake-ups are to be published.

        `oldest` has the ids of the oldest wake-up in the queues of lanes, or none where the queue
        is empty; `empty` names such lanes, too. Of others it is not known, and nothing counts as
        lost. Without `can_publish` what is to be woken up stays due.

        `wakeups` is from smsq.wakeup, where broker and ledger are one Redis: the claim then pushes
        the wake-ups itself, and returns only those that their queues did not take.
        """
        heads = dict(oldest or {}) | dict.fromkeys(empty, ())
        next_ms, lanes, rate, more, woken, others, *pairs = self._run(
            "claim",
            CLAIM_AT_MOST,
            FIRST_CHECK_S * 1000,
            round(resend_wait_s * 1000),
            json.dumps(heads),
            int(can_publish),
            wakeups,
        )
        wake = tuple(zip(pairs[::2], map(Lane, pairs[1::2]), strict=True))
        next_s = None if int(next_ms) < 0 else int(next_ms) / 1000
        lanes, *closed = lanes.split()
        closed = frozenset(map(Lane, closed))
        rates = tuple(OtherRate(*one) for one in others)
        return Due(wake, next_s, lanes, float(rate), bool(more), int(woken), closed, rates)

    def decide(
        self, message_id: str, decision: Decision, act: str = ""
    ) -> tuple[str, State | None]:
        """Resend or drop a held message: ("done", "unknown", "not held" or "too late", state).

        `act` is the operator's, from `smsq.audit`.
        """
        answer, state = self._run("decide", message_id, decision, act)
        return answer, State(state) if state else None
