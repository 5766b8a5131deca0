"""Processor time of processes, and on which cores they run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil


def cpu_s(pid: int) -> float:
    """Give what a process and its living children have used, in the system too."""
    root = psutil.Process(pid)
    times = [one.cpu_times() for one in (root, *root.children(recursive=True))]
    return sum(one.user + one.system for one in times)


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
