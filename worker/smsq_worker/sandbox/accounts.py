"""Several accounts on one machine: each has its own port, secret, reports and behaviour.

A further port has the switches, as that of an account may be down:

    curl http://127.0.0.1:8090/sandbox/accounts
    curl -X POST http://127.0.0.1:8090/sandbox/accounts/main/silent
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from smsq_worker.sandbox.behaviour import MOODS
from smsq_worker.sandbox.handlers import QuietHandler, quiet_application
from smsq_worker.sandbox.port import BindError, Port
from smsq_worker.sandbox.server import Sandbox

logger = logging.getLogger(__name__)


class SandboxAccounts:
    """Several sandboxes, and the port that switches how they behave."""

    def __init__(self, bind: tuple[str, int], accounts: Sequence[Sandbox]) -> None:
        """`bind` is where the switches are; port 0 takes a free one."""
        self.accounts = {one.account: one for one in accounts}
        self.urls: dict[str, str] = {}
        """By account, while they listen."""
        self._bind = bind

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[str]:
        """Serve in this event loop while the block runs."""
        async with AsyncExitStack() as stack:
            for name, one in self.accounts.items():
                self.urls[name] = await stack.enter_async_context(one.listening())
            own = {"accounts": self}
            switches = quiet_application(
                (r"/sandbox/accounts", _ListHandler, own),
                (r"/sandbox/accounts/([^/]+)/([^/]+)", _SwitchHandler, own),
            )
            port = Port(self._bind, switches)
            stack.push_async_callback(port.close)
            port.open()
            yield port.url

    def summary(self, name: str) -> dict[str, Any]:
        """Return how an account behaves, and what it has counted."""
        one = self.accounts[name]
        counted = one.journal.calls_summary()
        return {
            "url": f"{self.urls[name]}/",
            "behaviour": one.mood,
            "accepted": one.journal.total,
            "requests": counted["total"],
            "outcomes": counted["outcomes"],
        }


class _AccountsHandler(QuietHandler):
    def initialize(self, accounts: SandboxAccounts) -> None:
        self._accounts = accounts


class _ListHandler(_AccountsHandler):
    def get(self) -> None:
        self.write({name: self._accounts.summary(name) for name in self._accounts.accounts})


class _SwitchHandler(_AccountsHandler):
    async def post(self, name: str, mood: str) -> None:
        account = self._accounts.accounts.get(name)
        if account is None:
            self._refuse(404, f"no such account; there are {', '.join(self._accounts.accounts)}")
        elif mood not in MOODS:
            self._refuse(404, f"no such behaviour; there are {', '.join(MOODS)}")
        else:
            try:
                await account.switch(mood)
            except BindError as error:
                self._refuse(409, f"it cannot listen again on {error}")
                return
            logger.info("account %s is %s from now on", name, mood)
            self.write(self._accounts.summary(name))

    def _refuse(self, status: int, why: str) -> None:
        self.set_status(status)
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.write(f"{why}\n")
