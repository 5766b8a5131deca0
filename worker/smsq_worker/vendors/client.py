"""Submitting messages to a gateway: one request, with exactly one of four outcomes.

The type of an exception does not tell whether the request had left (an SSLError can come before
and after), so the connection does: whatever goes wrong while connecting raises NotConnected, and
after any other error the request may have been sent.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import Final

import tenacity

from smsq.boottime import now_s
from smsq_worker.config.gateway_address import MAX_PAUSE_S, TRIES, Address
from smsq_worker.domain.codes import Scope
from smsq_worker.domain.states import LeaseExpired, Outcome
from smsq_worker.infra.adapter import Adapter
from smsq_worker.infra.answer import Response
from smsq_worker.infra.http import NotConnected, name_of
from smsq_worker.vendors.mids import is_mid
from smsq_worker.vendors.vendor import GatewayResult, Unfit, Vendor

log = logging.getLogger(__name__)

SPARE_S: Final = 0.25
"""Kept free at the end of a lease, for clocks that drift and for writing the request."""

TOO_LATE: Final = GatewayResult(
    Outcome.NOT_SENT, "its lease was over before the request was written"
)


class Gateway:
    """An account's gateway, over kept-alive connections shared by all threads of a process."""

    def __init__(self, address: Address, vendor: Vendor) -> None:
        self._address = address
        self._vendor = vendor
        self._odd: set[str] = set()
        """The oddities of answers that have been logged, each once."""
        self._adapter = Adapter(
            vendor.url,
            verify=address.verify,
            connect_timeout_s=address.connect_timeout_s,
            read_timeout_s=address.read_timeout_s,
            idle_timeout_s=address.idle_timeout_s,
            connections=address.connections,
        )
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
        wait: Callable[[], None] = lambda: None,
        lease_ends: float = math.inf,
    ) -> GatewayResult:
        """Submit an SMS to the gateway once. Never raises.

        Only connecting is retried, at once and a few times. `wait` is called once, with the
        connection open, before the request is written; it returns at the send time or raises
        LeaseExpired. The request is written only if the answer can still come in time before
        `lease_ends`, by `boottime.now_s`.
        """
        waits = iter([wait])
        write_by = lease_ends - self._address.read_timeout_s - SPARE_S

        def ready() -> None:
            # Over a second connection, the send time has come.
            next(waits, lambda: None)()
            # The process may have been stopped in between.
            if now_s() >= write_by:
                raise LeaseExpired

        submit_once = partial(self._submit_once, phone, template, code, ready)
        result = submit_once()
        if not result.connected:
            # tenacity's bookkeeping is an eighth of a submission, so only retries pay for it.
            result = self._retrying(next, chain([result], iter(submit_once, None)))
        return result

    def close(self) -> None:
        """Close the idle connections."""
        self._adapter.close()

    def _submit_once(
        self, phone: str, template: str, code: str, ready: Callable[[], None]
    ) -> GatewayResult:
        try:
            request = self._vendor.request(phone, template, code)
        except Unfit as error:
            return GatewayResult(Outcome.REFUSED, f"local:unfit {error}", scope=Scope.TEMPLATE)
        except Exception as error:  # noqa: BLE001 - of another package's vendor
            return GatewayResult(Outcome.NOT_SENT, name_of(error), trouble=True)
        try:
            response = self._adapter.send(request, ready=ready)
        except NotConnected as error:
            return GatewayResult(Outcome.NOT_SENT, str(error), connected=False, trouble=True)
        except LeaseExpired:
            return TOO_LATE
        except Exception as error:  # noqa: BLE001 - whatever else it is, it may have been sent
            return GatewayResult(Outcome.MAYBE_SENT, name_of(error), trouble=True)
        return self._understood(response, (self._address.secret, phone, code))

    def _understood(self, response: Response, private: Sequence[str]) -> GatewayResult:
        try:
            result = self._vendor.understand(
                response.status_code,
                response.headers,
                response.content,
                private,
                trouble=response.trouble,
            )
        except Exception as error:  # noqa: BLE001 - of another package's vendor
            return GatewayResult(Outcome.MAYBE_SENT, name_of(error), trouble=True)
        if result.mid and not is_mid(result.mid):
            return replace(result, mid="", detail=result.detail or "no usable mid")
        if result.odd and result.odd not in self._odd:
            self._odd.add(result.odd)
            log.warning(
                "the gateway answers oddly (%s); this answer and others like it are taken as %s",
                result.odd,
                result.outcome,
            )
        return result
