"""Calling the gateway: one GET, and an answer that is always one of four outcomes.

An exception's type does not tell whether the request had left (an SSLError can come before and
after), so the connection itself says it: what goes wrong while connecting raises NotConnected,
and everything else that goes wrong may have been sent.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain
from typing import Any, Final
from urllib.parse import urlencode

import requests
import tenacity
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from smsq.boottime import now_s
from smsq_worker.config.gateway_address import MAX_PAUSE_S, TRIES, Address
from smsq_worker.domain.leases import LeaseExpired
from smsq_worker.domain.states import Outcome
from smsq_worker.gateway.response import Call, understand
from smsq_worker.infra.http import (
    Adapter,
    Connection,
    NotConnected,
    SecureConnection,
    name_of,
    read,
    socket_options,
)

log = logging.getLogger(__name__)

MAX_ANSWER: Final = 65_536
ACTION: Final = "module=sms&file=send&action=send"
SPARE_S: Final = 0.25
"""Of a lease, for clocks that do not go equally fast, and for writing."""


TOO_LATE: Final = Call(Outcome.NOT_SENT, "its lease was over before the request was written")

_departure = threading.local()
"""What the thread's call heeds at the last moment: `wait`, its time of departure, and `end`, when
its right to write the request ends."""


class _Departing:
    """Connects, waits for the time of departure, and only then writes the request.

    Raises LeaseExpired where it is too late by then: the process may have been stopped meanwhile.
    """

    sock: Any
    connect: Any

    def send(self, data: Any) -> None:
        if self.sock is None:
            self.connect()
        wait, _departure.wait = getattr(_departure, "wait", None), None
        if wait:
            wait()
        if now_s() >= getattr(_departure, "end", math.inf):
            raise LeaseExpired
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
        self._told: set[str] = set()
        """The oddities of answers that were warned of, each once."""
        self._adapter = _Adapter(
            {
                "http": partial(_Pool, idle_s=address.idle_timeout_s),
                "https": partial(_SecurePool, idle_s=address.idle_timeout_s),
            },
            socket_options=socket_options(address.read_timeout_s, address.idle_timeout_s),
            pool_connections=1,
            pool_maxsize=address.connections,
        )
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
        self,
        phone: str,
        template: str,
        code: str,
        depart: Callable[[], None] | None = None,
        lease_ends: float = math.inf,
    ) -> Call:
        """Ask the gateway once to send an SMS. Never raises.

        Only a connection that did not come about is tried again, at once and a few times.
        `depart` is called once, over the open connection, before the request is written; it may
        wait, and raise LeaseExpired. `lease_ends`, by `boottime.now_s`: the request is written only
        while the answer can still come in time before it.
        """
        _departure.wait = depart
        _departure.end = lease_ends - self._address.read_timeout_s - SPARE_S
        try:
            call = self._send(phone, template, code)
            if not call.connected:
                # tenacity's bookkeeping is an eighth of a call, so those in need alone have it.
                again = chain([call], iter(lambda: self._send(phone, template, code), None))
                call = self._retrying(next, again)
        finally:
            _departure.wait, _departure.end = None, math.inf
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
        except LeaseExpired:
            return TOO_LATE
        except Exception as error:  # noqa: BLE001 - the seam: whatever it is, it may have been sent
            return Call(Outcome.MAYBE_SENT, name_of(error), trouble=True)
        with response:
            return self._read(response, (self._address.secret, phone, code))

    def _read(self, response: requests.Response, private: Sequence[str]) -> Call:
        body, trouble = read(response, MAX_ANSWER)
        call = understand(response.status_code, response.headers, body, private, trouble=trouble)
        if call.odd and call.odd not in self._told:
            self._told.add(call.odd)
            log.warning(
                "the gateway answers oddly (%s); this was taken as %s, and others like it are",
                call.odd,
                call.outcome,
            )
        return call


def _is_not_of_ours(record: logging.LogRecord) -> bool:
    """Drop what urllib3 logs of our URLs: they hold the number and the code."""
    return "mobphone=" not in record.getMessage()
