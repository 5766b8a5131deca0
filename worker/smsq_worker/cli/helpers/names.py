"""Names as they are listed, and as the ledger has them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NoReturn

from smsq_worker.cli.helpers.asking import ask
from smsq_worker.cli.helpers.output import echo
from smsq_worker.domain.printable import escaped


def named(words: tuple[str, ...], listed: Callable[[], Iterable[str]]) -> Iterator[str]:
    """Yield what words name, or all that is listed where there are none.

    A name of an older release may hold what is shown as an escape, and is typed as that.
    """
    if not words:
        yield from listed()
        return
    shown = {}
    if any("\\" in word for word in words):
        shown = {escaped(name): name for name in listed()}
    yield from (shown.get(word, word) for word in words)


def decide_each(
    chosen: list[str],
    question: Callable[[int], str],
    decide: Callable[[str], tuple[bool, str]],
    *,
    yes: bool,
) -> NoReturn:
    """Decide what is chosen, one after the other, and say what became of each.

    Where there are many it asks first. Exits with 1 where one was not done.
    """
    if len(chosen) > 1:
        ask(question(len(chosen)), yes=yes)
    are_done = []
    for name in chosen:
        is_done, words = decide(name)
        are_done.append(is_done)
        echo(f"{name}  {words}")
    raise SystemExit(0 if all(are_done) else 1)
