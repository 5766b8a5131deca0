"""POST a callback to an endpoint: every failure is a result, not an exception."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from threading import Lock
from typing import Final, Literal
from urllib.parse import unquote

from urllib3.util import make_headers, parse_url

from smsq.settings import IDLE_S
from smsq_worker.callbacks.ssrf_guard import Guard
from smsq_worker.infra.adapter import Adapter
from smsq_worker.infra.http import NotConnected, Request, name_of, retry_after_s

HOSTS: Final = 32
_OWN_HEADERS: Final = {"Accept-Encoding": "identity", "User-Agent": "smsq"}
_LINE: Final = frozenset("\r\n\0")
CONNECTIONS: Final = 8
"""Kept open to each of HOSTS hosts; more are opened where they are needed."""
_URLLIB3S: Final = {"ReadTimeout": "ReadTimeoutError", "ConnectionError": "ProtocolError"}
"""Names by which troubles after the connection are known since callbacks went through urllib3."""

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
        self._adapters: dict[str, Adapter] = {}
        """By origin; the last was used last."""
        self._guards = {"http": Guard(allowed), "https": Guard(allowed, trusted)}
        self._adapter = partial(
            Adapter,
            connect_timeout_s=connect_timeout_s,
            read_timeout_s=read_timeout_s,
            idle_timeout_s=idle_timeout_s,
            connections=CONNECTIONS,
        )
        self._lock = Lock()

    def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Posted:
        """POST a body once. Never raises. Ends within `rules.longest_post_s`."""
        try:
            place = parse_url(url)
            encoded = _encoded({**headers, **_authorization(place.auth), **_OWN_HEADERS})
        except ValueError as error:
            return unsendable(error)
        try:
            guard, origin = self._guards[place.scheme or ""], f"{place.scheme}://{place.netloc}"
            request = Request("POST", f"{origin}{place.request_uri}", encoded, body)
            # The status decides: the body is only read so that the connection can be kept.
            response = self._adapter_of(origin, guard).send(request, ready=lambda: None)
        except NotConnected as error:
            return Posted(done=False, detail=str(error), why="unreached")
        except Exception as error:  # noqa: BLE001 - the seam: a URL may be anything
            name = name_of(error)
            return Posted(done=False, detail=_URLLIB3S.get(name, name))
        return _result(response.status_code, response.headers)

    def _adapter_of(self, origin: str, guard: Guard) -> Adapter:
        with self._lock:
            known = self._adapters.pop(origin, None)
            self._adapters[origin] = known or self._adapter(origin, look_up=guard.places)
            if len(self._adapters) > HOSTS:
                self._adapters.pop(next(iter(self._adapters))).close()
            return self._adapters[origin]

    def close(self) -> None:
        """Close the idle connections."""
        for adapter in self._adapters.values():
            adapter.close()

    # The channels that hold one are functions, and end by being forgotten.
    __del__ = close


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


def _authorization(auth: str | None) -> dict[str, str]:
    user, _, password = (auth or "").partition(":")
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
