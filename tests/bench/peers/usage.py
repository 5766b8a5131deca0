"""Processor time of processes, and on which cores they run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil


def cpu_s(pid: int) -> float:
    """Give what a process and all its children have used, in the system too."""
    root, used = psutil.Process(pid), 0.0
    for one in root.children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # one that ends is among those of its parent
            used += _sum(one)
    return used + _sum(root)


def _sum(process: psutil.Process) -> float:
    """Add up a process and those of its children that have ended."""
    times = process.cpu_times()
    return times.user + times.system + times.children_user + times.children_system


def cpu_model() -> str:
    """Name the processor, where the machine tells."""
    told = Path("/proc/cpuinfo")
    lines = told.read_text().splitlines() if told.exists() else []
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "?")


def cores() -> tuple[set[int], set[int]] | None:
    """Give one core and the others; None where there is one alone, or no choice."""
    if not hasattr(os, "sched_setaffinity") or len(mine := os.sched_getaffinity(0)) == 1:
        return None
    return {min(mine)}, mine - {min(mine)}


@contextmanager
def on(wanted: set[int] | None, pid: int = 0) -> Iterator[None]:
    """Keep a process, and what it starts meanwhile, on some cores; None is any."""
    if wanted is None:
        yield
        return
    # The kernel asks for each thread; 0 is the caller's.
    threads = [thread.id for thread in psutil.Process(pid).threads()] if pid else [0]
    before = os.sched_getaffinity(threads[0])
    _keep(threads, wanted)
    try:
        yield
    finally:
        _keep(threads, before)


def _keep(threads: list[int], wanted: set[int]) -> None:
    for thread in threads:
        os.sched_setaffinity(thread, wanted)
