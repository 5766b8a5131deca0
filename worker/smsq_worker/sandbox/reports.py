"""Push reports to the customer's address, in the background, with retries until they are taken."""

from __future__ import annotations

import asyncio
import json
import logging
from urllib.parse import urlencode

from tornado.httpclient import HTTPClientError, HTTPRequest
from tornado.simple_httpclient import SimpleAsyncHTTPClient

from smsq_worker.sandbox.behaviour import Push
from smsq_worker.sandbox.journal import new_mid
from smsq_worker.sandbox.sleep import interrupted

logger = logging.getLogger(__name__)

POST_TIMEOUT_S = 5.0
# 51 s in all: a receiver that is restarted still gets its reports.
RETRY_DELAYS_S = (0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6)
MAX_CLIENTS = 256


def render(push: Push, mid: str) -> tuple[str, bytes]:
    """Return content type and body of a report about `mid`."""
    report = {"mid": mid if push.own_mid else new_mid(), "stat": push.stat}
    if push.format == "form":
        return "application/x-www-form-urlencoded", urlencode(report).encode()
    if push.format == "batch":
        return "application/json", _json([report, {"mid": new_mid(), "stat": "DELIVRD"}])
    if push.format == "text with bom":
        return "text/plain; charset=utf-8", b"\xef\xbb\xbf" + _json(report)
    return "application/json", _json(report)


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


class ReportPusher:
    """Runs a background task for each accepted request, which POSTs its reports in order.

    The address holds the receiver's token, so it is never logged. Create it in the event loop.
    """

    def __init__(self, url: str | None, delay_s: float) -> None:
        self._url = url
        self._delay_s = delay_s
        self._client = SimpleAsyncHTTPClient(force_instance=True, max_clients=MAX_CLIENTS)
        # Tornado's own queue for a free client counts against a request's timeout; this does not.
        self._free = asyncio.Semaphore(MAX_CLIENTS)
        self._closing = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, pushes: tuple[Push, ...], mid: str) -> asyncio.Task[None]:
        """Start to push the reports of an accepted request; the task ends after the last one."""
        task = asyncio.create_task(self._push_all(pushes, mid))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def aclose(self) -> None:
        """Drop what has not been sent; a POST in progress is finished, within its timeout."""
        self._closing.set()
        await asyncio.gather(*self._tasks)
        self._client.close()

    async def _push_all(self, pushes: tuple[Push, ...], mid: str) -> None:
        loop = asyncio.get_running_loop()
        accepted_at = loop.time()
        for push in pushes:
            wait_s = accepted_at + push.after * self._delay_s - loop.time()
            if await interrupted(self._closing, wait_s):
                return
            await self._post_until_taken(push, mid)

    async def _post_until_taken(self, push: Push, mid: str) -> None:
        if self._url is None:
            return
        content_type, body = render(push, mid)
        for retry_in_s in (*RETRY_DELAYS_S, None):
            problem = await self._post(self._url, content_type, body)
            if problem is None:
                return
            if retry_in_s is None:
                logger.warning("report %s mid=%s abandoned: %s", push.stat, mid, problem)
                return
            logger.info("report %s mid=%s not taken: %s; retrying", push.stat, mid, problem)
            if await interrupted(self._closing, retry_in_s):
                return

    async def _post(self, url: str, content_type: str, body: bytes) -> str | None:
        """POST once; return what went wrong, or None if the receiver answered 2xx."""
        request = HTTPRequest(
            url,
            method="POST",
            headers={"Content-Type": content_type},
            body=body,
            connect_timeout=POST_TIMEOUT_S,
            request_timeout=POST_TIMEOUT_S,
            follow_redirects=False,
        )
        async with self._free:
            if self._closing.is_set():
                return "stopping"
            try:
                await self._client.fetch(request)
            except HTTPClientError as error:
                return f"HTTP {error.code}"
            # ValueError: an address that turns out to be invalid only when it is used.
            except (OSError, ValueError) as error:
                return type(error).__name__
        return None
