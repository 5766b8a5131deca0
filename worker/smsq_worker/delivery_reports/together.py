"""Reports that threads apply at the same time go to the ledger in one act, which costs far less."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import KW_ONLY, dataclass
from threading import Condition
from typing import Generic, NamedTuple, TypeVar

from smsq.errors import LedgerUnavailable
from smsq_worker.ledger.errors import LedgerFault

Given = TypeVar("Given")
Result = TypeVar("Result")


class _Share(NamedTuple, Generic[Given, Result]):
    given: Sequence[Given]
    results: Future[Sequence[Result]]


@dataclass(eq=False, repr=False)
class Together(Generic[Given, Result]):
    """Runs an act, each time with what threads gave since it began the last time.

    What comes alone is done at once; what comes soon after another waits for its followers.
    Whoever's turn it is does it for all.
    """

    act: Callable[[Sequence[Given]], Sequence[Result]]
    """Gives a result for each."""
    _: KW_ONLY
    at_most: int
    """So many go together."""
    apart_s: float = 0.0
    """The act begins again no sooner than after this."""

    def __post_init__(self) -> None:
        self._next_at = 0.0
        self._waiting = deque[_Share[Given, Result]]()
        self._changed = Condition()
        self._is_taken = False
        """Whether it is a thread's turn."""

    def __call__(self, given: Sequence[Given]) -> Sequence[Result]:
        """Return the results for these. Raises what the act raises."""
        share = _Share[Given, Result](given, Future())
        is_done = share.results.done
        with self._changed:
            self._waiting.append(share)
            # Whoever has its results goes at once, to come back with more before the next act.
            self._changed.wait_for(lambda: is_done() or not self._is_taken)
            if is_done():
                return share.results.result()
            self._is_taken = True
        try:
            while not is_done():
                time.sleep(max(0.0, self._next_at - time.monotonic()))
                self._next_at = time.monotonic() + self.apart_s
                self._run(self._next())
                with self._changed:
                    self._changed.notify_all()
        finally:
            with self._changed:
                self._is_taken = False
                self._changed.notify_all()
        return share.results.result()

    def _next(self) -> list[_Share[Given, Result]]:
        shares = [self._waiting.popleft()]
        count = len(shares[0].given)
        while self._waiting and count + len(self._waiting[0].given) <= self.at_most:
            shares.append(self._waiting.popleft())
            count += len(shares[-1].given)
        return shares

    def _run(self, shares: Sequence[_Share[Given, Result]]) -> None:
        try:
            results = self.act([one for share in shares for one in share.given])
        except BaseException as error:  # noqa: BLE001 - it is raised in the threads whose act it was
            if isinstance(error, LedgerUnavailable) and not isinstance(error, LedgerFault):
                # None is to wait for a server that is away longer than the first did.
                shares = [*shares, *(self._waiting.popleft() for _ in range(len(self._waiting)))]
            elif len(shares) > 1:
                # One that cannot be applied must not keep the others from it. They wait meanwhile,
                # as the server may go away.
                self._waiting.extendleft(reversed(shares))
                for share in shares:
                    if not share.results.done():
                        self._run([self._waiting.popleft()])
                return
            for share in shares:
                share.results.set_exception(error)
            return
        start = 0
        for share in shares:
            share.results.set_result(results[start : start + len(share.given)])
            start += len(share.given)
