"""How the weights of a route follow what its accounts deliver: slowly, within bounds, and back.

Once an hour each weight moves by at most one step from the file's, up or down, or back toward it.
An account is compared with the others of its route among messages of the same hour, lane and
template only, for which the differences are put together (Cochran, Mantel and Haenszel): who is
given the harder templates, or the worse hours, is not worse for that.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

STEP: Final = 1.1
STEPS: Final = 7
"""Most steps away from the file's weight: a factor of 1.95 up or down."""
FLOOR: Final = 0.05
"""No account is moved below that share of its route, so that it is still measured."""
HOURS: Final = 3
"""How many past hours are compared."""
FEW: Final = 10
"""Of fewer accepted messages of one hour, lane and template a rate says nothing."""
AWAY: Final = 0.03
"""A difference in the rate of delivery for which weights move."""
SURE: Final = 3.0
"""By how many standard errors it must be there."""
STILL_SURE: Final = 2.0
"""And still, without any one hour, and without any one template of less than half the messages."""
BACK: Final = 0.015
"""A difference for which they move back. Between the two they stay as they are."""
KNOWN: Final = 0.02
"""The standard error up to which accounts are known to be equal."""

Verdict = Literal["better", "worse", "equal", "unknown"]


@dataclass(frozen=True, slots=True)
class Sample:
    """What became of messages of one hour, lane and template at an account."""

    hour: int
    lane: str
    template: str
    account: str
    """Its key."""
    accepted: int
    delivered: int
    """Within 15 minutes."""
    reported: int
    """As delivered or as failed, whenever."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """An account beside the others of its route."""

    verdict: Verdict
    accepted: int = 0
    """By it, of what can be compared."""
    delivered: int = 0
    difference: float = 0.0
    """Of its rate to that of the others, as a share."""
    error: float = math.inf
    """The standard error of that."""


@dataclass(frozen=True, slots=True)
class _Pair:
    """Both sides of a stratum: what it weighs, and its parts of difference and variance."""

    hour: int
    kind: tuple[str, str]
    accepted: int
    delivered: int
    weight: float
    difference: float
    variance: float


def telling(samples: Iterable[Sample]) -> list[Sample]:
    """Return samples without the hours of accounts of which not one report came.

    Their reports may have been lost on their way.
    """
    given = [*samples]
    reported: defaultdict[tuple[str, int], int] = defaultdict(int)
    for one in given:
        reported[one.account, one.hour] += one.reported
    return [one for one in given if reported[one.account, one.hour]]


def compare(account: str, samples: Iterable[Sample]) -> Comparison:
    """Compare an account with all others that samples are of."""
    pairs = [*_pairs(account, samples)]
    weight = sum(one.weight for one in pairs)
    if not weight:
        return Comparison("unknown")
    difference = sum(one.difference for one in pairs) / weight
    error = math.sqrt(sum(one.variance for one in pairs)) / weight
    verdict: Verdict = "unknown"
    if abs(difference) >= AWAY and _is_sure(pairs, math.copysign(1, difference)):
        verdict = "better" if difference > 0 else "worse"
    elif abs(difference) <= BACK and error <= KNOWN:
        verdict = "equal"
    accepted, delivered = sum(p.accepted for p in pairs), sum(p.delivered for p in pairs)
    return Comparison(verdict, accepted, delivered, difference, error)


def _pairs(account: str, samples: Iterable[Sample]) -> Iterator[_Pair]:
    strata: defaultdict[tuple[int, str, str], list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    for one in samples:
        sums, at = strata[one.hour, one.lane, one.template], 0 if one.account == account else 2
        sums[at] += one.accepted
        sums[at + 1] += min(one.delivered, one.accepted)
    for (hour, lane, template), (n, x, m, y) in sorted(strata.items()):
        if min(n, m) >= FEW:
            weight, rate = n * m / (n + m), (x + y + 1) / (n + m + 2)
            difference = weight * (x / n - y / m)
            kind = (lane, template)
            yield _Pair(hour, kind, n, x, weight, difference, weight * rate * (1 - rate))


def _is_sure(pairs: Sequence[_Pair], sign: float) -> bool:
    """Return whether a difference is there, and is not that of one hour, or of one template."""

    def score(counted: Sequence[_Pair]) -> float:
        variance = sum(one.variance for one in counted)
        return sign * sum(one.difference for one in counted) / math.sqrt(variance) if counted else 0

    half = sum(one.weight for one in pairs) / 2
    of_kinds: defaultdict[tuple[str, str], float] = defaultdict(float)
    for one in pairs:
        of_kinds[one.kind] += one.weight
    small = [kind for kind, weight in of_kinds.items() if weight < half]
    without = [[one for one in pairs if one.hour != hour] for hour in {one.hour for one in pairs}]
    without += [[one for one in pairs if one.kind != kind] for kind in small]
    return score(pairs) >= SURE and all(score(others) >= STILL_SURE for others in without)


def moved(
    weights: Mapping[str, int], steps: Mapping[str, int], verdicts: Mapping[str, Verdict]
) -> dict[str, int]:
    """Return by how many steps each account's weight is moved from the file's, an hour later."""
    now = {account: steps.get(account, 0) for account in weights}
    wanted = {account: _wanted(k, verdicts.get(account, "unknown")) for account, k in now.items()}
    if _keeps_floor(weights, now, wanted):
        return wanted
    # All at once would bring one below the floor: one by one, as far as each may.
    steps, is_more = dict(now), True
    while is_more:
        is_more = False
        for account, k in wanted.items():
            one = steps | {account: k}
            if steps[account] != k and _keeps_floor(weights, now, one):
                steps, is_more = one, True
    return steps


def weight_of(weight: int, steps: int) -> float:
    """Return a weight of the file moved by steps."""
    return weight * STEP**steps


def _wanted(steps: int, verdict: Verdict) -> int:
    if verdict == "better":
        return min(steps + 1, STEPS)
    if verdict == "worse":
        return max(steps - 1, -STEPS)
    if verdict == "equal":
        return steps - (steps > 0) + (steps < 0)
    return steps


def _keeps_floor(
    weights: Mapping[str, int], before: Mapping[str, int], after: Mapping[str, int]
) -> bool:
    """Return whether none is moved below the floor, or its share in the file if that is less."""
    of_file, old, new = (_shares(weights, steps) for steps in ({}, before, after))
    return all(new[one] >= min(FLOOR, of_file[one], old[one]) * (1 - 1e-9) for one in weights)


def _shares(weights: Mapping[str, int], steps: Mapping[str, int]) -> dict[str, float]:
    moved_to = {one: weight_of(weight, steps.get(one, 0)) for one, weight in weights.items()}
    total = sum(moved_to.values())
    return {one: weight / total for one, weight in moved_to.items()}
