"""Steps of the ledger, awaited."""

from __future__ import annotations

from typing import TypeVar

from smsq.async_connection import aexchange
from smsq.connection import Client
from smsq.steps import Steps, adrive

Result = TypeVar("Result")


async def aperform(client: Client, steps: Steps[Result]) -> Result:
    """Take steps over a client's connections, as `perform` does; return their result."""
    return await adrive(steps, lambda commands: aexchange(client, commands))
