"""Asking a receiver to take an outcome: one POST, whose failure is an answer and no exception."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

import requests

from smsq.connection import IDLE_S
from smsq_worker.callbacks.ssrf_guard import guarded
from smsq_worker.infra.http import (
    Adapter,
    NotConnected,
    name_of,
    read_body,
    retry_after_s,
    socket_options,
)

MAX_ANSWER: Final = 65_536
"""More of an answer is not read; its connection is given up."""
HOSTS: Final = 32
CONNECTIONS: Final = 8
"""So many are kept open, to so many hosts; more are made where they are needed."""


@dataclass(frozen=True, slots=True)
class Posted:
    """What a POST came to."""

    done: bool
    """The receiver answered 2xx. Otherwise it may have taken the outcome all the same."""
    detail: str
    """The HTTP status or an error's name: never the URL, never what the receiver wrote."""
    gone: bool = False
    """It wants no more (410)."""
    retry_after_s: float = 0
    """It wants to be left alone for so long."""


class Poster:
    """Kept-alive connections to the receivers, shared by all threads of a process.

    `allowed` hosts may speak plain http and be at any address; `trusted` ones have https at
    public addresses. No others are asked. Redirects are not followed.
    """

    def __init__(
        self,
        allowed: frozenset[str],
        trusted: frozenset[str] = frozenset(),
        *,
        connect_timeout_s: float = 3.0,
        read_timeout_s: float = 10.0,
        idle_timeout_s: float = IDLE_S,
    ) -> None:
        self._adapter = Adapter(
            guarded(allowed, trusted, idle_timeout_s),
            socket_options=socket_options(read_timeout_s, idle_timeout_s),
            pool_connections=HOSTS,
            pool_maxsize=CONNECTIONS,
        )
        self._timeout = (connect_timeout_s, read_timeout_s)

    def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Posted:
        """Ask the receiver at a URL once to take a body. Never raises.

        It ends within `rules.longest_post_s`.
        """
        try:
            return self._post(url, headers, body)
        except NotConnected as error:
            return Posted(done=False, detail=str(error))
        except Exception as error:  # noqa: BLE001 - the seam: a URL may be anything
            return Posted(done=False, detail=name_of(error))

    def close(self) -> None:
        """Close the idle connections."""
        self._adapter.close()

    def _post(self, url: str, headers: Mapping[str, str], body: bytes) -> Posted:
        request = requests.Request("POST", url, {**headers, "User-Agent": "smsq"}, data=body)
        with self._adapter.send(request.prepare(), stream=True, timeout=self._timeout) as response:
            # Only so that the connection can be kept: the status has said it all.
            read_body(response.raw, MAX_ANSWER)
        return _understand(response.status_code, response.headers)


def _understand(status: int, headers: Mapping[str, str]) -> Posted:
    busy = status in {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}
    return Posted(
        done=200 <= status < 300,  # noqa: PLR2004
        detail=f"HTTP {status}",
        gone=status == HTTPStatus.GONE,
        retry_after_s=retry_after_s(headers) if busy else 0,
    )
