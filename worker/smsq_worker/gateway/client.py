"""Calling the gateway: one GET, and an answer that is always one of four outcomes.

An exception's type does not tell whether the request had left (an SSLError can come before and
after), so the connection itself says it: what goes wrong while connecting raises NotConnected,
and everything else that goes wrong may have been sent.
"""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Final
from urllib.parse import urlencode

import requests
import tenacity
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from smsq.connection import given_up
from smsq_worker.gateway.answer import Call, understand
from smsq_worker.states import Outcome
from smsq_worker.timely import (
    Adapter,
    Connection,
    NotConnected,
    SecureConnection,
    name_of,
    read,
)

MAX_ANSWER: Final = 65_536
ACTION: Final = "module=sms&file=send&action=send"
TRIES: Final = 3
MAX_PAUSE_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Address:
    """Where the gateway is and how to speak to it."""

    url: str
    secret: str = field(repr=False)
    verify: bool | str = True
    """True for the CAs that the system trusts, the path of a bundle, or False.

    The system's are those of OpenSSL, which SSL_CERT_FILE and SSL_CERT_DIR may replace.
    """
    connect_timeout_s: float = 3.0
    read_timeout_s: float = 10.0
    connections: int = 192

    @property
    def longest_call_s(self) -> float:
        """Bound a call's time, tries and pauses included, for a name of one address.

        Connecting may take its timeout twice, for TCP and for TLS, and writing once more; the
        whole answer has the other. The resolver's time is not bounded here.
        """
        connecting = (TRIES * 2 + 1) * self.connect_timeout_s + (TRIES - 1) * MAX_PAUSE_S
        return connecting + self.read_timeout_s


_departure = threading.local()
"""What the thread's call waits for at the last moment: its time of departure."""


class _Departing:
    """Connects, waits for the time of departure, and only then writes the request."""

    sock: Any
    connect: Any

    def send(self, data: Any) -> None:
        if self.sock is None:
            self.connect()
        wait, _departure.wait = getattr(_departure, "wait", None), None
        if wait:
            wait()
        super().send(data)  # type: ignore[misc]


class _Connection(_Departing, Connection):
    pass


class _SecureConnection(_Departing, SecureConnection):
    pass


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _SecureConnection

    def _validate_conn(self, conn: Any) -> None:
        """Leave out urllib3's warning at each unverified call; connecting comes by itself."""


class _Adapter(Adapter):
    """An adapter for one address, without what it would find out again at each call.

    That is a fifth of a call: the pool, whether a proxy is meant, and cookies that nobody reads.
    """

    _pool: Any = None

    def request_url(self, request: requests.PreparedRequest, *_: Any) -> str:
        """Give what follows the host."""
        return f"/{str(request.url).split('/', 3)[3]}"

    def build_response(self, request: requests.PreparedRequest, raw: Any) -> requests.Response:
        """Give status, headers and body."""
        response = requests.Response()
        response.status_code, response.headers, response.raw = raw.status, raw.headers, raw
        response.request, response.connection = request, self
        return response

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        """Give the pool. All calls have the same address and settings."""
        if self._pool is None:
            self._pool = super().get_connection_with_tls_context(*args, **kwargs)
        return self._pool

    def close(self) -> None:
        """Close the idle connections, which urllib3 does when nobody has the pool."""
        self._pool = None
        super().close()


class Gateway:
    """The vendor's gateway, over kept-alive connections shared by all threads of a process."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._adapter = _Adapter(
            {"http": _Pool, "https": _SecurePool},
            pool_connections=1,
            pool_maxsize=address.connections,
        )
        # What was given up must not reach the gateway later, when another call may have followed.
        options = given_up(address.read_timeout_s).items()
        self._adapter.poolmanager.connection_pool_kw["socket_options"] = [
            *HTTPConnectionPool.ConnectionCls.default_socket_options,
            *((socket.IPPROTO_TCP, option, value) for option, value in options),
        ]
        self._request = requests.Request(
            "GET",
            address.url,
            headers={
                "Authorization": address.secret,
                "Accept": "application/json",
                "Accept-Encoding": "identity",
                "User-Agent": "smsq",
            },
        ).prepare()
        self._headers = dict(self._request.headers)
        self._retrying = tenacity.Retrying(
            retry=tenacity.retry_if_result(lambda call: not call.connected),
            stop=tenacity.stop_after_attempt(TRIES),
            wait=tenacity.wait_exponential(multiplier=0.1, max=MAX_PAUSE_S - 0.1)
            + tenacity.wait_random(max=0.1),
            retry_error_callback=lambda state: state.outcome.result() if state.outcome else None,
        )
        for module in ("urllib3.connection", "urllib3.connectionpool"):
            logging.getLogger(module).addFilter(_is_not_of_ours)

    def send(
        self, phone: str, template: str, code: str, depart: Callable[[], None] | None = None
    ) -> Call:
        """Ask the gateway once to send an SMS. Never raises.

        Only a connection that did not come about is tried again, at once and a few times.
        `depart` is called once, over the open connection, before the request is written; it may
        wait.
        """
        _departure.wait = depart
        try:
            call = self._send(phone, template, code)
            if not call.connected:
                # tenacity's bookkeeping is an eighth of a call, so those in need alone have it.
                again = chain([call], iter(lambda: self._send(phone, template, code), None))
                call = self._retrying(next, again)
        finally:
            _departure.wait = None
        return call

    def close(self) -> None:
        """Close the idle connections."""
        self._adapter.close()

    def _send(self, phone: str, template: str, code: str) -> Call:
        request = requests.PreparedRequest()
        request.method = self._request.method
        # urllib3 copies them at each call, a plain dict soonest.
        request.headers = self._headers  # type: ignore[assignment]
        try:
            query = urlencode({"mobphone": phone, "code": code, "smstemplate": template})
            request.url = f"{self._request.url}?{ACTION}&{query}"
            response = self._adapter.send(
                request,
                stream=True,
                timeout=(self._address.connect_timeout_s, self._address.read_timeout_s),
                verify=self._address.verify,
            )
        except NotConnected as error:
            return Call(Outcome.NOT_SENT, str(error), connected=False, trouble=True)
        except Exception as error:  # noqa: BLE001 - the seam: whatever it is, it may have been sent
            return Call(Outcome.MAYBE_SENT, name_of(error), trouble=True)
        with response:
            return self._read(response, (self._address.secret, phone, code))

    def _read(self, response: requests.Response, private: Sequence[str]) -> Call:
        body, trouble = read(response, MAX_ANSWER)
        call = understand(response.status_code, response.headers, body, private)
        if trouble and call.outcome is Outcome.MAYBE_SENT:
            return Call(Outcome.MAYBE_SENT, trouble, trouble=True)
        return call


def _is_not_of_ours(record: logging.LogRecord) -> bool:
    """Drop what urllib3 logs of our URLs: they hold the number and the code."""
    return "mobphone=" not in record.getMessage()
