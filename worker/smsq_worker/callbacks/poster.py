"""POST a callback to an endpoint: every failure is a result, not an exception."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, Literal
from urllib.parse import unquote

from urllib3 import PoolManager, Timeout
from urllib3.util import make_headers, parse_url

from smsq.settings import IDLE_S
from smsq_worker.callbacks.pools import guarded_pools, released
from smsq_worker.infra.http import NotConnected, name_of, read_body, retry_after_s, socket_options

MAX_ANSWER: Final = 65_536
"""A longer answer is not read to its end, and its connection is closed."""
HOSTS: Final = 32
_LINE: Final = frozenset("\r\n\0")
CONNECTIONS: Final = 8
"""Kept open to each of HOSTS hosts; more are opened where they are needed."""

Trouble = Literal["failed", "unreached", "unsendable", "hindered"]
"""Whose it was.

- failed: the endpoint's
- unreached: its host's, as no connection came about
- unsendable: our own, it can never be sent
- hindered: our own, another try, or another worker, may succeed
"""


@dataclass(frozen=True, slots=True)
class Posted:
    """The result of a callback."""

    done: bool
    """The endpoint acknowledged with 2xx. If not, it may still have processed the callback."""
    detail: str
    """The HTTP status or an error's name: never the URL, never what the endpoint wrote."""
    gone: bool = False
    """The endpoint wants no more callbacks (410)."""
    retry_after_s: float = 0
    """The endpoint wants no callback for this long."""
    why: Trouble = "failed"
    """Whose trouble it was, where it is not done."""


class Poster:
    """Kept-alive connections to the endpoints, shared by all threads of a process.

    Hosts in `allowed` may speak plain http and have any address; those in `trusted` need https and
    public addresses. No others are called. Redirects are not followed.
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
        self._pools = PoolManager(
            num_pools=HOSTS,
            maxsize=CONNECTIONS,
            timeout=Timeout(connect=connect_timeout_s, read=read_timeout_s),
            retries=False,
            socket_options=socket_options(read_timeout_s, idle_timeout_s),
            # Where no CAs are named, urllib3 loads the system's.
            cert_reqs="CERT_REQUIRED",
        )
        pools: dict[str, Any] = guarded_pools(allowed, trusted, idle_timeout_s)
        self._pools.pool_classes_by_scheme = pools

    def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Posted:
        """POST a body once. Never raises. Ends within `rules.longest_post_s`."""
        try:
            encoded = _encoded({**headers, **_authorization(url), "User-Agent": "smsq"})
        except ValueError as error:
            return unsendable(error)
        try:
            response = self._pools.urlopen(
                "POST", url, redirect=False, headers=encoded, body=body, preload_content=False
            )
            with released(response):
                # Only so that the connection can be kept: the status decides.
                read_body(response, MAX_ANSWER)
            return _result(response.status, response.headers)
        except NotConnected as error:
            return Posted(done=False, detail=str(error), why="unreached")
        except Exception as error:  # noqa: BLE001 - the seam: a URL may be anything
            return Posted(done=False, detail=name_of(error))

    def close(self) -> None:
        """Close the idle connections."""
        self._pools.clear()


def unsendable(error: Exception) -> Posted:
    """Return the result of a callback that cannot be written down as a request."""
    return Posted(done=False, detail=f"cannot be sent: {name_of(error)}", why="unsendable")


def _encoded(headers: Mapping[str, str]) -> dict[str, str]:
    """Return headers that http.client takes. Raises ValueError for others."""
    for value in headers.values():
        value.encode("latin-1")
        if not _LINE.isdisjoint(value):
            raise ValueError("a header is one line")
    return {**headers}


def _authorization(url: str) -> dict[str, str]:
    user, _, password = (parse_url(url).auth or "").partition(":")
    made = make_headers(basic_auth=f"{unquote(user)}:{unquote(password)}") if user else {}
    return {name.title(): value for name, value in made.items()}


def _result(status: int, headers: Mapping[str, str]) -> Posted:
    is_busy = status in {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}
    return Posted(
        done=200 <= status < 300,  # noqa: PLR2004
        detail=f"HTTP {status}",
        gone=status == HTTPStatus.GONE,
        retry_after_s=retry_after_s(headers) if is_busy else 0,
    )
