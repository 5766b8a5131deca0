"""The API's routes, and what each does."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import datetime
from functools import partial
from typing import Any, Final, TypeVar

from anyio import CapacityLimiter, to_thread
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from smsq import deadline
from smsq.cancelling import Cancellation, cancel
from smsq.connection import Client
from smsq.tracking import Status, read_status
from smsq_worker.api import metrics
from smsq_worker.api.auth import Authenticator
from smsq_worker.api.body import BODY_TIMEOUT_S, read_body
from smsq_worker.api.clients import Caller
from smsq_worker.api.refusals import FULL, SIGNATURE, WHY, RefusalCounter
from smsq_worker.api.report_addresses import REPORTER, ReportAddresses, Reporter
from smsq_worker.api.sharing import Shared
from smsq_worker.api.throttle import SourceThrottle, address_of, host_of, source_of
from smsq_worker.config.settings import Settings
from smsq_worker.delivery_reports.coalescer import NoRoom, WriteCoalescer
from smsq_worker.delivery_reports.inbox import Inbox
from smsq_worker.domain.accounts import qualified
from smsq_worker.infra import memory
from smsq_worker.infra.quiet import Quiet
from smsq_worker.inspection.accounts import with_account_names
from smsq_worker.inspection.snapshot import Inspector
from smsq_worker.ledger import Ledger
from smsq_worker.ledger.states import caller_of
from smsq_worker.vendors.mids import is_mid
from smsq_worker.vendors.vendor import ReportRequest, Reports, Taken, Vendor, WrongSignature

log = logging.getLogger(__name__)

T = TypeVar("T")

KEEP_S: Final = 30.0
"""The longest a report waits until it is safe: Redis is tried for about 20 s."""
STUCK_S: Final = 60.0
"""The longest the spool may make no progress while Redis answers."""
THREADS: Final = 20
"""Requests that query Redis at a time; the others wait, but not beyond their own deadline."""
PARSERS: Final = 2
"""Large bodies that are parsed at a time: each takes the interpreter from the event loop."""
INLINE_BYTES: Final = 4096
"""Bodies up to this size are parsed in the event loop: that takes 5 ms in the worst case."""

_CANCELLED: Final[dict[str, int]] = {"cancelled": 200, "under_way": 202, "too_late": 409}


class ReportRefused(HTTPException):
    """A request with reports is refused in its vendor's own form."""

    def __init__(
        self,
        vendor: Vendor,
        taken: Taken,
        refused_as: tuple[str, str],
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.response = vendors_answer(vendor, taken, headers)
        self.refused_as = refused_as
        super().__init__(self.response.status_code)


class Api:
    """The endpoints, except for the relay's."""

    def __init__(
        self,
        settings: Settings,
        ledger: Ledger,
        client: Client,
        inbox: Inbox,
        authenticator: Authenticator,
        *,
        body_timeout_s: float = BODY_TIMEOUT_S,
    ) -> None:
        self._settings = settings
        self._client = client
        self._inbox = inbox
        self._writes = WriteCoalescer(inbox.keep, within_s=KEEP_S)
        self._authenticator = authenticator
        self.has_several_accounts = settings.accounts_file is not None
        """Their vendors may report by GET, too."""
        self._throttle = SourceThrottle("token")
        self._quiet = Quiet()
        self.refusals = RefusalCounter(ReportAddresses.of(settings))
        self._inspector = Inspector(client, settings.rules, settings.broker_url)
        self._body_timeout_s = body_timeout_s
        # Separate, so that a Redis that does not answer takes no thread from a report.
        self._threads = CapacityLimiter(THREADS)
        self._parsers = CapacityLimiter(PARSERS)
        within_s = settings.enqueue_timeout_s
        # Anyone may ask for these.
        scrape, refused = partial(metrics.render, self._inspector), ledger.refused
        self._scrape = Shared(partial(self._query, scrape), within_s)
        self._refused = Shared(partial(self._query, refused), within_s)

    def close(self) -> None:
        """Close the broker's connections; the ledger's are the caller's."""
        self._inspector.close()

    async def take_reports(self, request: Request) -> Response:
        """Take one report or several of the account whose token is in the path.

        They are as its vendor writes them, and so is the answer: taken once they are safe in the
        ledger or on the disk. Of a body that is partly malformed the good reports are kept. Where
        there is no room for all of them some may be kept.
        """
        reporter = self._reporter(request)
        reports = await self._read_reports(reporter.vendor, request)
        if reports.good:
            known = [(qualified(mid, reporter.key), stat) for mid, stat in reports.good]
            # Behind a proxy that is not trusted all are one source: accounts take turns, too.
            turn = f"{source_of(host_of(request))} {reporter.key}"
            try:
                await self._writes.submit(known, turn)
            except NoRoom:
                again = {"Retry-After": "60"}
                raise ReportRefused(reporter.vendor, "no_room", FULL, again) from None
            except OSError as error:  # TimeoutError is one, of a disk that hangs
                if self._quiet.is_over("unsafe"):
                    log.critical("neither Redis nor the spool takes a report: %s", error)
                raise ReportRefused(reporter.vendor, "no_room", WHY[503]) from None
        if reports.bad:
            raise ReportRefused(reporter.vendor, "malformed", WHY[400])
        return vendors_answer(reporter.vendor, "taken")

    async def _read_reports(self, vendor: Vendor, request: Request) -> Reports:
        body = await read_body(request, self._body_timeout_s)
        given = ReportRequest(
            request.method,
            str(request.url),
            request.headers,
            request.scope["query_string"],
            body,
        )
        try:
            if len(body) <= INLINE_BYTES:
                found = vendor.read_reports(given)
            else:
                found = await to_thread.run_sync(vendor.read_reports, given, limiter=self._parsers)
        except WrongSignature:
            raise ReportRefused(vendor, "refused", SIGNATURE) from None
        # What another package's vendor calls a mid must not be a mid of another account.
        good = tuple(one for one in found.good if is_mid(one[0]))
        return Reports(good, found.bad + len(found.good) - len(good))

    def _reporter(self, request: Request) -> Reporter:
        """Return who reports. Raises HTTPException 404, or 429, unless a gateway sent the request.

        A right token passes, however many wrong ones come from the same address.
        """
        found = self.reporter_of(request)
        if found is None:
            self._throttle.count_wrong(request)
            raise HTTPException(404, "no such address")
        return found

    def reporter_of(self, request: Request) -> Reporter | None:
        """Return whose address a request was sent to, if it may report there.

        Others are not to see by the answer that the token is right.
        """
        found: Reporter | None = request.scope[REPORTER]
        allowed = self._settings.report_allow
        source = address_of(host_of(request))
        is_allowed = not allowed or (source and any(source in network for network in allowed))
        return found if is_allowed else None

    async def message(self, request: Request) -> Response:
        """Return a message's status. A caller sees only its own messages."""
        caller = self._authenticator.caller(request)
        status = await self._query(self._message, caller, request.path_params["message_id"])
        if status is None:
            raise HTTPException(404, "no such message")
        found = with_account_names(status, self._settings.rules.accounts)
        text = json.dumps(found, ensure_ascii=False, separators=(",", ":"), default=_iso)
        return Response(text, media_type="application/json")

    def _message(self, caller: Caller, message_id: str) -> Status | None:
        client, url = self._client, self._settings.redis_url
        status = read_status(client, url, message_id)
        if status and caller.name and caller_of(client, url, message_id) != caller.name:
            return None
        return status

    async def cancel(self, request: Request) -> Response:
        """Cancel a message as far as that is possible. A caller cancels only its own messages.

        200: it certainly was not sent, and will not be. 202: an attempt is under way, and decides;
        it is not tried again. 409: too late, it is what its state says; it is not sent again.
        """
        caller = self._authenticator.caller(request)
        found = await self._query(self._cancel, caller, request.path_params["message_id"])
        if found is None:
            raise HTTPException(404, "no such message")
        return JSONResponse(asdict(found), _CANCELLED[found.answer])

    def _cancel(self, caller: Caller, message_id: str) -> Cancellation | None:
        # Whose it is never changes.
        if self._message(caller, message_id) is None:
            return None
        (found,) = cancel(self._client, self._settings, [message_id])
        return found

    async def metrics(self, request: Request) -> Response:
        """Return the metrics in Prometheus' text form."""
        del request
        text = await self._scrape.result()
        return Response(text, media_type=metrics.CONTENT_TYPE)

    async def ready(self, request: Request) -> Response:
        """Return 200 if Redis takes what is written, and the spool is being replayed."""
        del request
        if refused := await self._refused.result():
            if refused == memory.FULL:
                raise HTTPException(503, "Redis is full: it takes no message and no report")
            # Not why: that may name what is nobody's business here.
            raise HTTPException(503, "Redis refuses what is written: smsq doctor says why")
        if self._inbox.stuck_s() > STUCK_S:
            raise HTTPException(503, "reports in the spool do not come into Redis")
        return answer(200, "ok")

    async def _query(self, act: Callable[..., T], *args: Any) -> T:
        """Query Redis in a thread; the deadline includes the wait for one.

        Raises LedgerUnavailable, which is answered with 503.
        """
        with deadline.within(self._settings.enqueue_timeout_s):
            return await to_thread.run_sync(act, *args, limiter=self._threads)


async def healthy(request: Request) -> Response:
    """Return 200: the process is up."""
    del request
    return answer(200, "ok")


def answer(code: int, msg: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """Return an answer in the vendor's own form."""
    return JSONResponse({"code": code, "msg": msg}, code, headers)


def vendors_answer(
    vendor: Vendor, taken: Taken, headers: Mapping[str, str] | None = None, status: int = 0
) -> Response:
    """Return what a vendor is answered, with the status that it has for it, or with another."""
    told = vendor.report_answer(taken)
    return Response(told.body, status or told.status, headers, told.content_type)


def _iso(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")
