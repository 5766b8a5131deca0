"""One act for what several threads ask for at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event

import pytest

from harness.waiting import eventually
from smsq.errors import LedgerUnavailable
from smsq_worker.delivery_reports import together as module
from smsq_worker.delivery_reports.together import Together
from smsq_worker.ledger.errors import LedgerFault

PATIENCE_S = 30
BAD = {"away": LedgerUnavailable, "fault": LedgerFault, "wrong": ValueError}


class Slow:
    """An act whose first run lasts until it is told to end."""

    def __init__(self) -> None:
        self.began, self.may_end = Event(), Event()
        self.given: list[list[str]] = []

    def __call__(self, things: Sequence[str]) -> list[str]:
        self.given.append([*things])
        self.began.set()
        assert self.may_end.wait(PATIENCE_S)
        for thing in things:
            if thing in BAD:
                raise BAD[thing](thing)
        return [thing.upper() for thing in things]


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as threads:
        yield threads


def asked(
    threads: ThreadPoolExecutor, slow: Slow, *asked: list[str]
) -> list[Future[Sequence[str]]]:
    """Ask for the first; while it is done, for the others, in this order; give their answers."""
    together = Together(slow, at_most=4)
    answers = [threads.submit(together, asked[0])]
    assert slow.began.wait(PATIENCE_S)
    for n, things in enumerate(asked[1:], 1):
        answers.append(threads.submit(together, things))
        eventually(lambda n=n: len(together._waiting) == n)
    slow.may_end.set()
    return answers


def test_what_comes_while_the_act_runs_goes_together_as_far_as_it_fits(
    threads: ThreadPoolExecutor,
) -> None:
    slow = Slow()
    answers = asked(threads, slow, ["a"], ["b", "c"], [], ["d"], ["e", "f"], [*"ghijk"], ["l"])
    given = [answer.result(PATIENCE_S) for answer in answers]
    assert given == [["A"], ["B", "C"], [], ["D"], ["E", "F"], [*"GHIJK"], ["L"]]
    assert slow.given == [["a"], ["b", "c", "d"], ["e", "f"], [*"ghijk"], ["l"]]


@pytest.mark.parametrize("bad", ["fault", "wrong"])
def test_one_that_fails_fails_alone(threads: ThreadPoolExecutor, bad: str) -> None:
    slow = Slow()
    _, good, failed, other = asked(threads, slow, ["a"], ["b"], [bad], ["c"])
    assert (good.result(PATIENCE_S), other.result(PATIENCE_S)) == (["B"], ["C"])
    with pytest.raises(BAD[bad]):
        failed.result(PATIENCE_S)


def test_while_the_ledger_is_away_it_is_asked_once_for_all(threads: ThreadPoolExecutor) -> None:
    slow = Slow()
    _, *answers = asked(threads, slow, ["a"], ["b"], ["away"], ["c"], [*"defg"])
    for answer in answers:
        with pytest.raises(LedgerUnavailable):
            answer.result(PATIENCE_S)
    assert slow.given == [["a"], ["b", "away", "c"]]


def test_it_is_asked_once_for_all_where_it_goes_away_behind_one_that_fails(
    threads: ThreadPoolExecutor,
) -> None:
    slow = Slow()
    _, failed, *answers = asked(threads, slow, ["a"], ["wrong"], ["away"], ["c"])
    with pytest.raises(ValueError, match="wrong"):
        failed.result(PATIENCE_S)
    for answer in answers:
        with pytest.raises(LedgerUnavailable):
            answer.result(PATIENCE_S)
    assert slow.given == [["a"], ["wrong", "away", "c"], ["wrong"], ["away"]]


class Clock:
    """A time that stands still, and in which whoever sleeps is woken up by hand."""

    def __init__(self) -> None:
        self.sleeps, self.wake = Event(), Event()

    def monotonic(self) -> float:
        return 1000.0

    def sleep(self, seconds: float) -> None:
        if seconds:
            self.sleeps.set()
            assert self.wake.wait(PATIENCE_S)


def test_one_alone_is_done_at_once_and_one_right_behind_it_waits_for_its_followers(
    threads: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, slow = Clock(), Slow()
    monkeypatch.setattr(module, "time", clock)
    slow.may_end.set()
    together = Together(slow, at_most=4, apart_s=0.01)
    assert together(["a"]) == ["A"]
    assert not clock.sleeps.is_set()
    second = threads.submit(together, ["b"])
    assert clock.sleeps.wait(PATIENCE_S)
    third = threads.submit(together, ["c"])
    eventually(lambda: len(together._waiting) == 2)
    clock.wake.set()
    assert (second.result(PATIENCE_S), third.result(PATIENCE_S)) == (["B"], ["C"])
    assert slow.given == [["a"], ["b", "c"]]


def test_whoever_has_its_results_is_back_before_the_next_act(threads: ThreadPoolExecutor) -> None:
    sizes: list[int] = []

    def act(things: Sequence[int]) -> Sequence[int]:
        sizes.append(len(things))
        return things

    together = Together(act, at_most=50, apart_s=0.03)

    def ask(n: int) -> None:
        for _ in range(10):
            assert together([n]) == [n]

    for asks in [threads.submit(ask, n) for n in range(8)]:
        asks.result(PATIENCE_S)
    assert sum(sizes) == 80
    assert len(sizes) < 20, sizes
