"""Doing in one go what many ask for at once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from threading import Event

import pytest

from smsq_worker.delivery_reports import coalescer
from smsq_worker.delivery_reports.coalescer import NoRoom, WriteCoalescer

PATIENCE_S = 30


class Slow:
    """An act that lasts until it is told to end."""

    def __init__(self) -> None:
        self.began, self.may_end = Event(), Event()
        self.given: list[list[str]] = []

    def __call__(self, things: Sequence[str]) -> Sequence[str]:
        self.given.append([*things])
        self.began.set()
        assert self.may_end.wait(PATIENCE_S)
        if "bad" in things:
            raise OSError("the disk is full")
        return [thing for thing in things if thing == "one too many"]


async def ask(together: WriteCoalescer, *asked: Sequence[str]) -> list[asyncio.Task[None]]:
    """Ask at the same time; wait until all have."""
    tasks = [asyncio.create_task(together.submit(things)) for things in asked]
    await asyncio.sleep(0)
    return tasks


def test_what_comes_while_the_act_runs_is_done_in_one_go_after_it() -> None:
    async def run() -> None:
        first = await ask(together, ["1"])
        assert await asyncio.to_thread(slow.began.wait, PATIENCE_S)
        others = await ask(together, ["2", "3"], ["4"], ["5"])
        assert not any(task.done() for task in first + others)
        slow.may_end.set()
        await asyncio.gather(*first, *others)
        # And alone again, once all is done.
        await together.submit(["6"])

    slow = Slow()
    together = WriteCoalescer(slow)
    asyncio.run(run())
    assert slow.given == [["1"], ["2", "3", "4", "5"], ["6"]]


def test_those_whose_act_failed_are_told_and_the_others_are_not() -> None:
    async def run() -> None:
        good = await ask(together, ["1"])
        assert await asyncio.to_thread(slow.began.wait, PATIENCE_S)
        bad = await ask(together, ["bad"], ["2"])
        slow.may_end.set()
        told = await asyncio.gather(*good, *bad, return_exceptions=True)
        assert [str(one) for one in told] == ["None", "the disk is full", "the disk is full"]
        await together.submit(["3"])

    slow = Slow()
    together = WriteCoalescer(slow)
    asyncio.run(run())


def test_one_who_no_longer_waits_does_not_disturb_the_others() -> None:
    async def run() -> None:
        tasks = await ask(together, ["1"], ["2"])
        assert await asyncio.to_thread(slow.began.wait, PATIENCE_S)
        tasks[0].cancel()
        slow.may_end.set()
        with pytest.raises(asyncio.CancelledError):
            await tasks[0]
        await tasks[1]

    slow = Slow()
    together = WriteCoalescer(slow)
    asyncio.run(run())
    assert slow.given == [["1", "2"]]


def test_those_for_whose_reports_there_is_no_room_are_told_and_the_others_are_not() -> None:
    async def run() -> None:
        slow.may_end.set()
        tasks = await ask(together, ["1"], ["2", "one too many"], ["3"])
        told = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(one) for one in told] == [type(None), NoRoom, type(None)]

    slow = Slow()
    together = WriteCoalescer(slow)
    asyncio.run(run())


def test_sources_take_turns_and_none_takes_all_the_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coalescer, "AT_ONCE", 4)
    monkeypatch.setattr(coalescer, "OF_ONE_SOURCE", 6)
    monkeypatch.setattr(coalescer, "WAITING_AT_MOST", 8)

    async def run() -> None:
        first = asyncio.create_task(together.submit(["first"], "flood"))
        assert await asyncio.to_thread(slow.began.wait, PATIENCE_S)
        flood = [
            asyncio.create_task(together.submit([f"{n}a", f"{n}b"], "flood")) for n in range(3)
        ]
        gateway = asyncio.create_task(together.submit(["true"], "gateway"))
        await asyncio.sleep(0)
        for source, more in (("flood", ["7"]), ("another", ["8", "9"])):
            with pytest.raises(NoRoom):
                await together.submit(more, source)
        # Who no longer waits leaves room, and its source's turn is over.
        flood[2].cancel()
        await asyncio.wait([flood[2]])
        another = asyncio.create_task(together.submit(["8", "9"], "another"))
        await asyncio.sleep(0)
        slow.may_end.set()
        await asyncio.gather(first, *flood[:2], gateway, another)

    slow = Slow()
    together = WriteCoalescer(slow)
    asyncio.run(run())
    assert slow.given == [["first"], ["true", "0a", "0b", "8", "9"], ["1a", "1b"]]
    assert not together._waiting
    assert not together._counts
