"""What a scenario came to, and what all of them begin and end with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from bench.peers.goals import Goal
from bench.place import Place
from bench.plan import Plan
from bench.scale.fill import Filled, queue
from bench.scale.measure import RATE, Measure
from smsq.contract import Lane

WORKERS: Final = 2
SETTLE_S: Final = 3.0


@dataclass(frozen=True)
class Result:
    """A row of the table, its goals, and what else there is to say."""

    row: dict[str, Any]
    goals: Sequence[Goal]
    notes: Sequence[str]


def fresh(place: Place, name: str, **settings: object) -> None:
    """Begin a scenario at the rate of all of them."""
    place.fresh(f"scale-{name}", SMSQ_RATE_PER_S=RATE, SMSQ_RATE_BURST=1, **settings)
    # Or the first worker would migrate a ledger that nobody but producers has used.
    place.start_workers(1)
    place.stop_workers()


def scaled(count: int, plan: Plan) -> int:
    """Give a count at the size asked for."""
    return max(1, round(count * plan.size))


def background(plan: Plan, shape: str = "batches") -> Filled:
    """Queue enough bulk that the rate is used up all the time."""
    return queue(int(RATE * (2 * plan.seconds + 60)), Lane.BULK, shape)


def result(measure: Measure, filled: Filled, *notes: str, goals: Sequence[Goal] = ()) -> Result:
    """Put a scenario's figures together; `filled` is all that could go but the otps."""
    return Result(
        {"messages": filled.messages, **measure.figures(filled.wakeups)},
        [*measure.goals(filled.messages), *goals],
        [f"queued in {filled.seconds:.0f} s; {measure.notes()}", *notes],
    )
