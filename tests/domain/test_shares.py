"""Weights follow what accounts deliver: slowly, within bounds, and back."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smsq_worker.domain.shares import (
    FLOOR,
    STEP,
    STEPS,
    Sample,
    Verdict,
    compare,
    moved,
    telling,
    weight_of,
)

A, B = "", "backup"


def sample(account: str, rate: float, *, n: int = 400, hour: int = 1, kind: str = "T") -> Sample:
    return Sample(hour, "otp", kind, account, n, round(n * rate), n)


def hours(a: float, b: float, *, n: int = 400, kind: str = "T") -> list[Sample]:
    """Three hours in which both accounts deliver as given."""
    return [
        sample(account, rate, n=n, hour=hour, kind=kind)
        for hour in (1, 2, 3)
        for account, rate in ((A, a), (B, b))
    ]


def verdicts(samples: list[Sample]) -> tuple[Verdict, Verdict]:
    found = telling(samples)
    return compare(A, found).verdict, compare(B, found).verdict


def test_who_delivers_less_is_worse() -> None:
    assert verdicts(hours(0.85, 0.95)) == ("worse", "better")
    one = compare(A, hours(0.85, 0.95))
    assert (one.accepted, one.delivered) == (1200, 1020)
    assert one.difference == pytest.approx(-0.1)


def test_who_delivers_alike_is_equal() -> None:
    assert verdicts(hours(0.95, 0.95)) == ("equal", "equal")
    assert verdicts(hours(1.0, 1.0)) == ("equal", "equal")


@pytest.mark.parametrize(
    "samples",
    [
        [],
        hours(0.5, 0.9, n=9),
        hours(0.93, 0.95),  # between both bounds: stays as it is
        hours(0.9, 0.9, n=20),  # too few to be known to be equal
        [sample(A, 0.5), sample(B, 0.9)],  # of one hour alone
        [sample(A, 0.5, kind="T"), sample(B, 0.9, kind="U")],  # of nothing that both had
        [one for one in hours(0.5, 0.9) if one.account == A],
    ],
)
def test_without_evidence_nothing_is_known(samples: list[Sample]) -> None:
    assert verdicts(samples) == ("unknown", "unknown")


def test_one_bad_hour_does_not_decide() -> None:
    bad = [sample(A, 0.2), sample(B, 0.95)]
    rest = [one for one in hours(0.95, 0.95) if one.hour != 1]
    assert verdicts([*bad, *rest]) == ("unknown", "unknown")


def test_one_bad_template_does_not_decide() -> None:
    others = [one for kind in "UVW" for one in hours(0.95, 0.95, kind=kind)]
    assert verdicts([*hours(0.2, 0.95), *others]) == ("unknown", "unknown")
    # But where it is most of what is sent.
    few = [one for kind in "UVW" for one in hours(0.95, 0.95, n=20, kind=kind)]
    assert verdicts([*hours(0.2, 0.95), *few]) == ("worse", "better")


def test_harder_templates_are_no_fault_of_an_account() -> None:
    """Simpson: the main account has the hard template nine times in ten, and is no worse."""

    def mixed(of_a: float, of_b: float) -> list[Sample]:
        """What each delivers of the hard and the easy template is the same, or 5 points less."""
        return [
            sample(account, rate - (1 - good), n=n, hour=hour, kind=kind)
            for hour in (1, 2, 3)
            for account, kind, n, rate, good in (
                (A, "hard", 900, 0.7, of_a),
                (A, "easy", 100, 0.98, of_a),
                (B, "hard", 100, 0.7, of_b),
                (B, "easy", 900, 0.98, of_b),
            )
        ]

    def rate(account: str, samples: list[Sample]) -> float:
        own = [one for one in samples if one.account == account]
        return sum(one.delivered for one in own) / sum(one.accepted for one in own)

    alike = mixed(1.0, 1.0)
    assert rate(A, alike) < rate(B, alike) - 0.2
    assert compare(A, alike).difference == pytest.approx(0)
    assert not {"better", "worse"} & {*verdicts(alike)}
    better = mixed(1.0, 0.93)
    assert rate(A, better) < rate(B, better) - 0.1
    assert verdicts(better) == ("better", "worse")


def test_an_hour_without_any_report_says_nothing() -> None:
    lost = [Sample(hour, "otp", "T", A, 400, 0, 0) for hour in (1, 2, 3)]
    assert verdicts([*lost, *(one for one in hours(0, 0.95) if one.account == B)])[0] == "unknown"
    # All that failed is something else.
    assert verdicts(hours(0, 0.95)) == ("worse", "better")


def drawn(rng: random.Random, rates: dict[str, float], n: int) -> list[Sample]:
    def delivered(rate: float) -> int:
        return sum(rng.random() < rate for _ in range(n))

    return [
        Sample(hour, "otp", kind, account, n, delivered(rate), n)
        for hour in (1, 2, 3)
        for kind in ("T", "U")
        for account, rate in rates.items()
    ]


def test_chance_moves_little() -> None:
    """Of 100 windows in which both deliver alike, at most one seems otherwise."""
    rng = random.Random(21)
    found = [verdicts(drawn(rng, {A: 0.9, B: 0.9}, 60))[0] for _ in range(100)]
    assert len([one for one in found if one in {"better", "worse"}]) <= 1


# How weights move

Weights = dict[str, int]


def shares(weights: Weights, steps: dict[str, int]) -> dict[str, float]:
    now = {one: weight_of(weight, steps.get(one, 0)) for one, weight in weights.items()}
    return {one: weight / sum(now.values()) for one, weight in now.items()}


def run(
    weights: Weights, each: Callable[[int], dict[str, Verdict]], n: int
) -> Iterator[dict[str, int]]:
    steps: dict[str, int] = {}
    for hour in range(n):
        steps = moved(weights, steps, each(hour))
        yield steps


def test_it_moves_by_a_tenth_an_hour_up_to_its_bounds_and_back() -> None:
    weights = {A: 3, B: 1}
    *_, last = all_steps = [*run(weights, lambda _: {A: "worse", B: "better"}, 20)]
    assert all_steps[0] == {A: -1, B: 1}
    assert last == {A: -STEPS, B: STEPS}
    assert STEP**STEPS <= 2
    steps = last
    for _ in range(STEPS):
        steps = moved(weights, steps, {A: "equal", B: "equal"})
    assert steps == {A: 0, B: 0}
    assert moved(weights, steps, {A: "equal", B: "equal"}) == steps


def test_without_evidence_it_stays() -> None:
    assert moved({A: 3, B: 1}, {A: -2, B: 2}, {A: "unknown"}) == {A: -2, B: 2}


VERDICTS = st.sampled_from(("better", "worse", "equal", "unknown"))


@settings(max_examples=100)
@given(
    st.lists(st.integers(1, 1000), min_size=2, max_size=5),
    st.lists(st.lists(VERDICTS, min_size=5, max_size=5), max_size=25),
)
def test_whatever_is_said_bounds_and_floor_hold_and_it_comes_back(
    given_weights: list[int], said: list[list[Verdict]]
) -> None:
    weights = {f"a{n}": weight for n, weight in enumerate(given_weights)}
    of_file = shares(weights, {})
    before: dict[str, int] = dict.fromkeys(weights, 0)
    for steps in run(weights, lambda hour: dict(zip(weights, said[hour], strict=False)), len(said)):
        assert all(abs(k) <= STEPS and abs(k - before[one]) <= 1 for one, k in steps.items())
        for one, share in shares(weights, steps).items():
            assert share >= min(FLOOR, of_file[one]) - 1e-9
        before = steps
    for _ in range(20 * STEPS):
        before = moved(weights, before, dict.fromkeys(weights, "equal"))
    assert set(before.values()) == {0}
