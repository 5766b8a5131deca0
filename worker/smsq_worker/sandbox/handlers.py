"""The sandbox's HTTP: the vendor's one request, and what was accepted, to be read."""

from __future__ import annotations

import asyncio
import logging
import traceback
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from tornado.web import Application, HTTPError, RequestHandler

from smsq.contract import mask_phone
from smsq_worker.sandbox.answers import Exchange, give
from smsq_worker.sandbox.checks import refusal
from smsq_worker.sandbox.outcomes import outcome_for

if TYPE_CHECKING:
    from types import TracebackType

    from smsq_worker.sandbox.journal import Journal
    from smsq_worker.sandbox.reports import ReportPusher
    from smsq_worker.sandbox.turns import Answer, Turn

logger = logging.getLogger(__name__)

# An early report whose receiver is away must not hold the answer for all its retries.
EARLY_WAIT_S = 5.0
_PHONE_DIGITS = 11
_ARGUMENTS = ("module", "file", "action", "mobphone", "smstemplate")


@dataclass(frozen=True, slots=True)
class Desk:
    """What the handlers share while the server listens."""

    secret: str = field(repr=False)
    slow_s: float
    journal: Journal
    pusher: ReportPusher
    in_flight: set[asyncio.Task[Any]] = field(default_factory=set)

    async def idle(self) -> None:
        """Wait until no call is being answered."""
        if self.in_flight:
            await asyncio.wait(self.in_flight)


def application(desk: Desk) -> Application:
    """Return the Tornado application."""
    shared = {"desk": desk}
    return Application(
        [
            (r"/", SendHandler, shared),
            (r"/sandbox/accepted", AcceptedHandler, shared),
            (r"/sandbox/accepted/([^/]+)", NumberHandler, shared),
            (r"/sandbox/calls", CallsHandler, shared),
            (r"/healthz", HealthHandler),
        ],
        default_handler_class=UnknownHandler,
        log_function=_no_access_log,
    )


def _no_access_log(_handler: RequestHandler) -> None:
    """Log nothing: Tornado's own line has the whole query, number and code included."""


def _shown(phone: str) -> str:
    """Return a number fit for the log; what is no number is not quoted at all."""
    return mask_phone(phone) if phone.isdecimal() and len(phone) == _PHONE_DIGITS else "****"


class QuietHandler(RequestHandler):
    """A handler whose failures are logged without the request."""

    def log_exception(
        self,
        typ: type[BaseException] | None,
        value: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        """Log where it failed, but no text of the error: it may quote an argument."""
        if typ is not None and not isinstance(value, HTTPError):
            logger.error("%s in the sandbox\n%s", typ.__name__, "".join(traceback.format_tb(tb)))


class DeskHandler(QuietHandler):
    """A handler that knows the desk."""

    def initialize(self, desk: Desk) -> None:
        """Take what the handlers share."""
        self.desk = desk


class SendHandler(DeskHandler):
    """The vendor's request: `/?module=sms&file=send&action=send&...`, GET or POST."""

    def initialize(self, desk: Desk) -> None:
        """Take what the handlers share."""
        super().initialize(desk)
        self._gone = asyncio.Event()

    def on_connection_close(self) -> None:
        """Note that the client went away, or that the server is stopping."""
        self._gone.set()

    async def get(self) -> None:
        """Check the call, do what its number's last digits ask for, and answer."""
        self._track()
        arguments = {name: self.get_argument(name, "") for name in _ARGUMENTS}
        authorization = self.request.headers.get("Authorization", "")
        refused = refusal(authorization, arguments, self.desk.secret)
        if refused is not None:
            self.desk.journal.count_refusal(refused.name)
            logger.info("refused: %s", refused.name)
            await self._give(refused.answer, mid="")
            return
        await self._take(arguments["mobphone"], arguments["smstemplate"])

    async def post(self) -> None:
        """Do the same: arguments may stand in the query or in a form."""
        await self.get()

    def _track(self) -> None:
        task = asyncio.current_task()
        if task is not None:
            self.desk.in_flight.add(task)
            task.add_done_callback(self.desk.in_flight.discard)

    async def _take(self, phone: str, template: str) -> None:
        outcome = outcome_for(phone)
        call = self.desk.journal.count_call(phone, outcome.name)
        turn = outcome.turn(call)
        mid = self.desk.journal.accept(phone, template, outcome.name) if turn.accepts else ""
        logger.info("%s call %d: %s, %s", _shown(phone), call, outcome.name, mid or "not accepted")
        if turn.accepts:
            await self._report(turn, mid)
        await self._give(turn.answer, mid)
        if self._gone.is_set():
            logger.info("%s call %d: closed before the answer", _shown(phone), call)

    async def _report(self, turn: Turn, mid: str) -> None:
        task = self.desk.pusher.start(turn.pushes, mid)
        if turn.report_first:
            await asyncio.wait({task}, timeout=EARLY_WAIT_S)

    async def _give(self, answer: Answer, mid: str) -> None:
        await give(Exchange(self, answer, mid, self._gone, self.desk.slow_s))


class AcceptedHandler(DeskHandler):
    """How many calls were accepted, by number."""

    def get(self) -> None:
        """Answer {"total", "numbers"}."""
        self.write(self.desk.journal.accepted_summary())


class NumberHandler(DeskHandler):
    """What was accepted for one number."""

    def get(self, phone: str) -> None:
        """Answer {"phone", "count", "mids", "accepted"}; zero for a number never seen."""
        entries = self.desk.journal.accepted(phone)
        self.write(
            {
                "phone": phone,
                "count": len(entries),
                "mids": [entry.mid for entry in entries],
                "accepted": [asdict(entry) for entry in entries],
            }
        )


class CallsHandler(DeskHandler):
    """How many calls there were, refused ones too."""

    def get(self) -> None:
        """Answer {"total", "outcomes", "numbers"}."""
        self.write(self.desk.journal.calls_summary())


class HealthHandler(QuietHandler):
    """Whether the sandbox is up."""

    def get(self) -> None:
        """Answer ok."""
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.write("ok")


class UnknownHandler(QuietHandler):
    """Any other path."""

    def prepare(self) -> None:
        """Answer 404."""
        raise HTTPError(404)
