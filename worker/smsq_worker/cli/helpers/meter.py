"""The progress of a long command: a bar on a terminal, else a line now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeAlias

from smsq_worker.cli.helpers.output import echo
from smsq_worker.domain.printable import escaped
from smsq_worker.i18n import _
from smsq_worker.inspection.formatting import span

Step: TypeAlias = Callable[[int, str], None]
"""Takes how many are done, and more text."""

_LINE_EVERY_S: Final = 10.0
_BAR: Final = 20


@contextmanager
def meter(what: str, total: int | None, begun: int = 0, *, quiet: bool = False) -> Iterator[Step]:
    """Show on stderr how many of `total` rows are done, the rate and the time that is left.

    `begun` were done before. The total may be unknown.
    """
    what = _(what)
    if quiet:
        yield lambda _done, _words: None
    elif sys.stderr.isatty():
        with _bar(what, total, begun) as step:
            yield step
    else:
        yield _lines(what, total, begun)


@contextmanager
def _bar(what: str, total: int | None, begun: int) -> Iterator[Step]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn
    from rich.table import Column

    with Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=_BAR),
        # Broken into lines: what pauses it must not be cut off.
        TextColumn("{task.fields[words]}", markup=False, table_column=Column(no_wrap=False)),
        console=Console(stderr=True),
        transient=True,
    ) as progress:
        task = progress.add_task(what, total=total, completed=begun, words="")
        pace = _pace(total, begun)

        def step(done: int, words: str) -> None:
            shown = escaped(f"{pace(done)} {words}".strip())
            progress.update(task, completed=done, words=shown)

        yield step


def _lines(what: str, total: int | None, begun: int) -> Step:
    pace = _pace(total, begun)
    last = time.monotonic()

    def step(done: int, words: str) -> None:
        nonlocal last
        if time.monotonic() - last >= _LINE_EVERY_S:
            last = time.monotonic()
            echo(f"{what} {pace(done)} {words}".rstrip(), err=True)

    return step


def _pace(total: int | None, begun: int) -> Callable[[int], str]:
    """Return what says of a number that are done how fast that was, from now on."""
    since = time.monotonic()

    def words(done: int) -> str:
        rate = (done - begun) / max(time.monotonic() - since, 0.001)
        if total is None:
            return f"{done}, {rate:.0f}/s"
        words = _("{done} of {total}, {rate:.0f}/s", done=done, total=total, rate=rate)
        if rate <= 0:
            return words
        return _("{words}, {time} left", words=words, time=span((total - done) / rate))

    return words
