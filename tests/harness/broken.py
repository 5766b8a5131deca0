"""Rules of either ledger, broken one at a time: whether a case is worth something shows then."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import pytest
import redis

from harness.sides import Play, in_memory, in_redis
from smsq import functions
from smsq.app import app
from smsq.ledger_writer import LedgerWriter
from smsq_worker.config.settings import Settings
from smsq_worker.ledger import scripts

Case = Callable[[Play], None]


class Broken(Protocol):
    """A rule that is broken while the block runs, and the side on which it is."""

    def play(self, request: pytest.FixtureRequest) -> Any:
        """Return a context manager of a play on that side."""


@dataclass(frozen=True)
class OfOutbox:
    """A name of the memory ledger that stands for another value."""

    where: Any
    rule: str
    value: Any

    def __str__(self) -> str:
        return f"outbox {self.rule}"

    @contextmanager
    def play(self, request: pytest.FixtureRequest) -> Iterator[Play]:
        request.getfixturevalue("monkeypatch").setattr(self.where, self.rule, self.value)
        with in_memory() as play:
            yield play


@dataclass(frozen=True)
class OfAct:
    """A line of a worker's Lua that is another."""

    file: str
    line: str
    other: str

    def __str__(self) -> str:
        return f"{self.file}.lua {self.line}"

    @contextmanager
    def play(self, request: pytest.FixtureRequest) -> Iterator[Play]:
        texts = dict(scripts._files())
        assert self.line in texts[self.file]
        texts[self.file] = texts[self.file].replace(self.line, self.other)
        request.getfixturevalue("monkeypatch").setattr(scripts, "_files", lambda: texts)
        with in_redis(*_server(request)) as play:
            yield play


@dataclass(frozen=True)
class OfEntry:
    """A line of enqueue.lua that is another."""

    line: str
    other: str

    def __str__(self) -> str:
        return f"enqueue.lua {self.line}"

    @contextmanager
    def play(self, request: pytest.FixtureRequest) -> Iterator[Play]:
        given, patch = functions.lua, request.getfixturevalue("monkeypatch")
        assert self.line in given("enqueue")
        patch.setattr(functions, "lua", lambda name: given(name).replace(self.line, self.other))
        patch.setattr(functions, "LIBRARY", "smsq_broken")  # Not loaded, so the script is run.
        patch.setattr(app, "ledger_writer", LedgerWriter(*_server(request)))
        with in_redis(*_server(request)) as play:
            yield play


def _server(request: pytest.FixtureRequest) -> tuple[redis.Redis, Settings]:
    return request.getfixturevalue("client"), request.getfixturevalue("settings")


def broken_rules(*pairs: tuple[Broken, Case]) -> Callable[..., None]:
    """Return a test: each case is red with its rule broken. That it is green without is its own."""

    @pytest.mark.parametrize(("rule", "case"), pairs, ids=named)
    def is_found(rule: Broken, case: Case, request: pytest.FixtureRequest) -> None:
        with (
            rule.play(request) as play,
            pytest.raises((AssertionError, ValueError, pytest.fail.Exception)),
        ):
            case(play)

    return is_found


def named(value: object) -> str:
    return getattr(value, "__name__", str(value))


def nothing(*_: Any, **__: Any) -> str:
    return ""
