"""The code that a worker or a producer runs: this tree's, a release's, or a commit's."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from bench.product import API_BIND
from bench.release import UNPACKED, unpacked
from harness.paths import ROOT, TESTS

Figure = TypeVar("Figure")
Way = TypeVar("Way")


@dataclass(frozen=True)
class Tree:
    """A tree of smsq, found by processes that get its environment."""

    name: str
    path: tuple[str, ...] = ()
    api_bind: str = API_BIND
    """What the setting of the HTTP API's address is called."""

    def environ(self) -> dict[str, str]:
        """Give what makes a process run it; nothing where it is this tree."""
        path = os.pathsep.join([*self.path, str(TESTS)])
        return {"PYTHONPATH": path} if self.path else {}


THIS: Final = Tree("now")


def released(name: str) -> Tree:
    """Give a release, from its wheel."""
    return Tree(name, (str(unpacked(name)),), api_bind="SMSQ_DOOR_BIND")


def committed(commit: str) -> Tree:
    """Give a commit of this repository."""
    folder = UNPACKED / commit
    folder.mkdir(parents=True, exist_ok=True)
    command = ["git", "archive", commit, "producer", "worker"]
    archive = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout
    subprocess.run(["tar", "-x", "-C", folder], input=archive, check=True)
    return Tree(commit, (f"{folder}/producer", f"{folder}/worker"))


def take_turns(
    rounds: int, before: Way, after: Way, measure: Callable[[Way, int], Figure]
) -> tuple[list[Figure], list[Figure]]:
    """Measure two trees, or contenders, in turn, so that what disturbs meets both alike.

    `measure` is told the round's number.
    """
    figures: dict[Way, list[Figure]] = {before: [], after: []}
    for n in range(rounds):
        for way in (before, after) if n % 2 else (after, before):
            figures[way].append(measure(way, n))
    return figures[before], figures[after]
