"""Steps of the ledger, awaited."""

from __future__ import annotations

from typing import TypeVar

from smsq.async_connection import AsyncClient
from smsq.steps import Steps, adrive

Result = TypeVar("Result")


async def aperform(client: AsyncClient, steps: Steps[Result]) -> Result:
    """Take steps over a loop's connections, as `perform` does; return their result."""
    return await adrive(steps, client.exchange)
