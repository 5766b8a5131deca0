"""Taskiq with one aiohttp session; the broker is the one its documentation shows."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Annotated

import aiohttp
from taskiq import Context, TaskiqDepends, TaskiqEvents, TaskiqState
from taskiq_redis import RedisStreamBroker

from bench.peers.vendor import CODE, HEADERS, REDIS_URL, TEMPLATE, TIMEOUT_S, URL, check, query

WORKER = (
    *("taskiq", "worker", "bench.peers.taskiq_aiohttp:broker"),
    *("--workers", "1", "--max-async-tasks", "64", "--log-level", "WARNING"),
)

broker = RedisStreamBroker(url=REDIS_URL)


@broker.on_event(TaskiqEvents.WORKER_STARTUP)
async def open_session(state: TaskiqState) -> None:
    """Open the session that all tasks share."""
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    state.session = aiohttp.ClientSession(headers=HEADERS, timeout=timeout)


@broker.on_event(TaskiqEvents.WORKER_SHUTDOWN)
async def close_session(state: TaskiqState) -> None:
    """Close it."""
    await state.session.close()


@broker.task
async def send_sms(
    phone: str, template: str, code: str, context: Annotated[Context, TaskiqDepends()]
) -> None:
    """Call the gateway."""
    async with context.state.session.get(URL, params=query(phone, template, code)) as answer:
        check(await answer.json())


async def _enqueue(phones: Iterable[str]) -> None:
    await broker.startup()
    for phone in phones:
        await send_sms.kiq(phone, TEMPLATE, CODE)


_runner = asyncio.Runner()


def enqueue(phones: Iterable[str]) -> None:
    """Enqueue one task per number, over connections that stay open until the next call."""
    _runner.run(_enqueue(phones))
