"""Submitting messages to the gateway: one GET, with exactly one of four outcomes.

The type of an exception does not tell whether the request had left (an SSLError can come before
and after), so the connection does: whatever goes wrong while connecting raises NotConnected, and
after any other error the request may have been sent.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any, Final
from urllib.parse import urlencode

import requests
import tenacity
from requests.adapters import BaseAdapter
from urllib3 import Retry, Timeout
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.util import parse_url

from smsq.boottime import now_s
from smsq_worker.config.gateway_address import MAX_PAUSE_S, TRIES, Address
from smsq_worker.domain.leases import LeaseExpired
from smsq_worker.domain.states import Outcome
from smsq_worker.gateway.response import GatewayResult, understand
from smsq_worker.infra.http import (
    Connection,
    NotConnected,
    PrivatePool,
    SecureConnection,
    name_of,
    read_body,
    released,
    socket_options,
)

log = logging.getLogger(__name__)

MAX_ANSWER: Final = 65_536
ACTION: Final = "module=sms&file=send&action=send"
SPARE_S: Final = 0.25
"""Kept free at the end of a lease, for clocks that drift and for writing the request."""

TOO_LATE: Final = GatewayResult(
    Outcome.NOT_SENT, "its lease was over before the request was written"
)
_NO_RETRIES: Final = Retry(total=False)
_KNOWN_AS: Final = {"ReadTimeoutError": "ReadTimeout", "ProtocolError": "ConnectionError"}
"""The names in attempts' details since release 0.1.0, which are those of requests."""


def _no_wait() -> None:
    pass


class _Pool(PrivatePool, HTTPConnectionPool):
    """Connections over which a request is written at its send time, and within its lease."""

    ConnectionCls: Any = Connection

    def _make_request(  # type: ignore[override]
        self, conn: Any, *args: Any, wait: Callable[[], None], write_by: float, **options: Any
    ) -> Any:
        """Connect, wait, and write the request only if it is not too late by then.

        Raises LeaseExpired otherwise: the process may have been stopped in between.
        """
        if conn.is_closed:
            conn.connect()
        wait()
        if now_s() >= write_by:
            raise LeaseExpired
        return super()._make_request(conn, *args, **options)


class _CheckedConnection(SecureConnection):
    def connect(self) -> None:
        for path in filter(None, (self.ca_certs, self.ca_cert_dir)):
            if not os.path.exists(path):  # noqa: PTH110 - as urllib3 has it
                raise NotConnected("OSError")
        super().connect()


class _SecurePool(_Pool, HTTPSConnectionPool):
    ConnectionCls = _CheckedConnection

    def _validate_conn(self, conn: Any) -> None:
        """Omit urllib3's warning at each unverified request; the connection is open."""


class _Adapter(BaseAdapter):
    """The adapter of requests for one address.

    It is used without a Session: that would add cookies, proxies from the environment and a .netrc
    that replaces the Authorization header, and cost a third of a submission.
    """

    def __init__(self, pool: HTTPConnectionPool) -> None:
        self._pool = pool

    def send(  # type: ignore[override]
        self, request: requests.PreparedRequest, **options: Any
    ) -> requests.Response:
        """Send a request; `options` are those of the pool."""
        raw = self._pool.urlopen(
            str(request.method),
            # What follows the host; `path_url` would parse all of it for every request.
            f"/{str(request.url).split('/', 3)[3]}",
            headers=request.headers,
            retries=_NO_RETRIES,
            redirect=False,
            assert_same_host=False,
            preload_content=False,
            decode_content=False,
            **options,
        )
        response = requests.Response()
        response.status_code, response.raw, response.request = raw.status, raw, request
        response.headers = raw.headers  # type: ignore[assignment]
        return response

    def close(self) -> None:
        """Close the idle connections."""
        self._pool.close()


class Gateway:
    """The vendor's gateway, over kept-alive connections shared by all threads of a process."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._odd: set[str] = set()
        """The oddities of answers that have been logged, each once."""
        url = parse_url(address.url)
        options: dict[str, Any] = {
            "timeout": Timeout(connect=address.connect_timeout_s, read=address.read_timeout_s),
            "maxsize": address.connections,
            "socket_options": socket_options(address.read_timeout_s, address.idle_timeout_s),
            "idle_s": address.idle_timeout_s,
        }
        if url.scheme == "https":
            options["cert_reqs"] = "CERT_REQUIRED" if address.verify else "CERT_NONE"
            # Where no CAs are named, urllib3 loads the system's.
            if isinstance(address.verify, str):
                is_folder = os.path.isdir(address.verify)  # noqa: PTH112
                options["ca_cert_dir" if is_folder else "ca_certs"] = address.verify
        pool = _SecurePool if url.scheme == "https" else _Pool
        self._adapter = _Adapter(pool(str(url.host), url.port, **options))
        # Prepared, it has a slash after the host.
        self._url = f"{requests.Request('GET', address.url).prepare().url}?{ACTION}&"
        self._headers = {
            "Authorization": address.secret,
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "User-Agent": "smsq",
        }
        self._retrying = tenacity.Retrying(
            retry=tenacity.retry_if_result(lambda result: not result.connected),
            stop=tenacity.stop_after_attempt(TRIES),
            wait=tenacity.wait_exponential(multiplier=0.1, max=MAX_PAUSE_S - 0.1)
            + tenacity.wait_random(max=0.1),
            retry_error_callback=lambda state: state.outcome.result() if state.outcome else None,
        )

    def submit(
        self,
        phone: str,
        template: str,
        code: str,
        *,
        wait: Callable[[], None] = _no_wait,
        lease_ends: float = math.inf,
    ) -> GatewayResult:
        """Ask the gateway once to send an SMS. Never raises.

        Only connecting is retried, at once and a few times. `wait` is called once, with the
        connection open, before the request is written; it returns at the send time or raises
        LeaseExpired. The request is written only if the answer can still come in time before
        `lease_ends`, by `boottime.now_s`.
        """

        def submit_once() -> GatewayResult:
            return self._submit_once(phone, template, code, wait, lease_ends)

        result = submit_once()
        if not result.connected:
            # tenacity's bookkeeping is an eighth of a submission, so only retries pay for it.
            result = self._retrying(next, chain([result], iter(submit_once, None)))
        return result

    def close(self) -> None:
        """Close the idle connections."""
        self._adapter.close()

    def _submit_once(
        self, phone: str, template: str, code: str, wait: Callable[[], None], lease_ends: float
    ) -> GatewayResult:
        request = requests.PreparedRequest()
        request.method = "GET"
        # urllib3 copies them for each request, a plain dict fastest.
        request.headers = self._headers  # type: ignore[assignment]
        try:
            query = {"mobphone": phone, "code": code, "smstemplate": template}
            request.url = self._url + urlencode(query)
            response = self._adapter.send(
                request,
                wait=wait,
                write_by=lease_ends - self._address.read_timeout_s - SPARE_S,
            )
        except NotConnected as error:
            return GatewayResult(Outcome.NOT_SENT, str(error), connected=False, trouble=True)
        except LeaseExpired:
            return TOO_LATE
        except Exception as error:  # noqa: BLE001 - whatever else it is, it may have been sent
            name = name_of(error)
            return GatewayResult(Outcome.MAYBE_SENT, _KNOWN_AS.get(name, name), trouble=True)
        with released(response.raw):
            return self._read(response, (self._address.secret, phone, code))

    def _read(self, response: requests.Response, private: Sequence[str]) -> GatewayResult:
        body, trouble = read_body(response.raw, MAX_ANSWER)
        result = understand(response.status_code, response.headers, body, private, trouble=trouble)
        if result.odd and result.odd not in self._odd:
            self._odd.add(result.odd)
            log.warning(
                "the gateway answers oddly (%s); this answer and others like it are taken as %s",
                result.odd,
                result.outcome,
            )
        return result
