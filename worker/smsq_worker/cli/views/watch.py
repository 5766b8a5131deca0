"""Show something repeatedly: in place on a terminal, one after the other elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

from rich.live import Live
from rich.text import Text

from smsq.errors import LedgerUnavailable
from smsq_worker.cli.helpers.output import echo, echo_lines, fitted_lines
from smsq_worker.i18n import _
from smsq_worker.i18n.told import told

Look = Callable[[], list[str]]


def watch(look: Look, every_s: float) -> None:
    """Show the lines that `look` returns until Ctrl-C; a LedgerUnavailable is shown with them.

    Raises what else `look` raises.
    """
    with suppress(KeyboardInterrupt):
        if sys.stdout.isatty():
            _in_place(look, every_s)
        else:
            _one_by_one(look, every_s)


def _in_place(look: Look, every_s: float) -> None:
    last: list[str] = []
    # What does not fit matters less than what is above it.
    with Live(auto_refresh=False, vertical_overflow="crop") as live:
        for lines, trouble in _looks(look, every_s):
            last = lines or last
            away = [_("{why}; the above is old, trying again", why=trouble)] if trouble else []
            shown = fitted_lines([*last, *away])
            live.update(Text("\n".join(shown), overflow="fold"), refresh=True)


def _one_by_one(look: Look, every_s: float) -> None:
    for lines, trouble in _looks(look, every_s):
        if trouble:
            echo(_("{why}; trying again", why=trouble), err=True)
        else:
            echo_lines(lines)


def _looks(look: Look, every_s: float) -> Iterator[tuple[list[str], str]]:
    """Yield (lines, "") each time, or ([], what is wrong)."""
    while True:
        try:
            found = look(), ""
        except LedgerUnavailable as error:
            found = [], f"smsq: {told(str(error))}"
        yield found
        time.sleep(every_s)
