"""A sandbox in a thread of this process."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, contextmanager
from functools import partial

from smsq_worker.sandbox import Sandbox, SandboxAccounts
from smsq_worker.sandbox.journal import Journal

# Only reached on a fault. A POST in progress is finished before the stop.
START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 60.0


class RunningSandbox:
    """A sandbox that listens in a thread with its own event loop."""

    url: str
    """Where it listens, without a trailing slash."""

    def __init__(
        self, listening: Callable[[], AbstractAsyncContextManager[str]], journal: Journal
    ) -> None:
        self._listening = listening
        self._journal = journal
        self._ready: Future[None] = Future()
        self._stop: Callable[[], object]
        self._thread = threading.Thread(target=self._main, name="smsq-sandbox")
        self._thread.start()
        self._ready.result(START_TIMEOUT_S)

    @property
    def total(self) -> int:
        """How many requests were accepted."""
        return self._journal.total

    def accepted(self, phone: str) -> int:
        """Return how many requests were accepted for this number."""
        return len(self.mids(phone))

    def mids(self, phone: str) -> list[str]:
        """Return the mids given out for this number, oldest first."""
        mids: list[str] = self._journal.number_summary(phone)["mids"]
        return mids

    def calls(self, phone: str) -> int:
        """Return how many valid requests there were for this number, accepted or not."""
        calls: dict[str, int] = self._journal.calls_summary()["numbers"]
        return calls.get(phone, 0)

    def stop(self) -> None:
        """Stop listening, close all connections, end the thread. Idempotent."""
        if self._thread.is_alive():
            self._stop()
        self._thread.join(STOP_TIMEOUT_S)
        if self._thread.is_alive():
            raise TimeoutError("the sandbox did not stop")

    def _main(self) -> None:
        try:
            asyncio.run(self._serve())
        except Exception as error:
            if self._ready.done():
                raise
            self._ready.set_exception(error)

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        async with self._listening() as self.url:
            self._stop = partial(loop.call_soon_threadsafe, stop.set)
            self._ready.set_result(None)
            await stop.wait()


@contextmanager
def serving(gateway: Sandbox | SandboxAccounts) -> Iterator[RunningSandbox]:
    """Serve from a thread of this process while the block runs."""
    journal = gateway.journal if isinstance(gateway, Sandbox) else Journal()
    running = RunningSandbox(gateway.listening, journal)
    try:
        yield running
    finally:
        running.stop()
