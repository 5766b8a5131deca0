"""streaQ, to which users of arq turn, with one aiohttp session."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import aiohttp
from streaq import Worker

from bench.peers.vendor import CODE, HEADERS, REDIS_URL, TEMPLATE, TIMEOUT_S, URL, check, query

WORKER = ("streaq", "run", "bench.peers.streaq_aiohttp:worker")


@asynccontextmanager
async def open_session() -> AsyncIterator[aiohttp.ClientSession]:
    """Open the session that all tasks share."""
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    async with aiohttp.ClientSession(headers=HEADERS, timeout=timeout) as session:
        yield session


worker = Worker(redis_url=REDIS_URL, concurrency=64, lifespan=open_session)


@worker.task
async def send_sms(phone: str, template: str, code: str) -> None:
    """Call the gateway."""
    async with worker.context.get(URL, params=query(phone, template, code)) as answer:
        check(await answer.json())


async def _enqueue(phones: Iterable[str]) -> None:
    async with worker:
        for phone in phones:
            await send_sms.enqueue(phone, TEMPLATE, CODE)


def enqueue(phones: Iterable[str]) -> None:
    """Enqueue one task per number."""
    asyncio.run(_enqueue(phones))
