"""Names as they are listed, and as the ledger has them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

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
