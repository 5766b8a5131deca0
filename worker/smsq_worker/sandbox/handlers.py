"""The sandbox's HTTP: the vendor's one request, and what was accepted, for tests to read."""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tornado.web import Application, HTTPError, RequestHandler

from smsq.contract import mask_phone
from smsq_worker.sandbox.behaviour import Behaviour
from smsq_worker.sandbox.checks import refusal
from smsq_worker.sandbox.journal import Journal
from smsq_worker.sandbox.moods import Mood
from smsq_worker.sandbox.outcomes import outcome_for
from smsq_worker.sandbox.reports import ReportPusher
from smsq_worker.sandbox.responses import Exchange, respond

logger = logging.getLogger(__name__)

# An early report whose receiver is away must not hold the response for all its retries.
EARLY_WAIT_S = 5.0
_PHONE_DIGITS = 11
_ARGUMENTS = ("module", "file", "action", "mobphone", "smstemplate")


@dataclass(frozen=True, slots=True)
class Shared:
    """What all requests share while the server listens."""

    secret: str = field(repr=False)
    slow_s: float
    journal: Journal
    pusher: ReportPusher
    mood: Callable[[], Mood]
    """How the account behaves now."""
    in_flight: set[asyncio.Task[Any]] = field(default_factory=set)

    def track(self) -> None:
        """Count the current task as a request in flight until it ends."""
        if task := asyncio.current_task():
            self.in_flight.add(task)
            task.add_done_callback(self.in_flight.discard)

    async def idle(self) -> None:
        """Wait until no request is in flight."""
        if self.in_flight:
            await asyncio.wait(self.in_flight)


def application(shared: Shared) -> Application:
    """Return the Tornado application."""
    journal = shared.journal
    return Application(
        [
            (r"/", SendHandler, {"shared": shared}),
            (r"/sandbox/accepted", JournalHandler, {"read": journal.accepted_summary}),
            (r"/sandbox/accepted/([^/]+)", JournalHandler, {"read": journal.number_summary}),
            (r"/sandbox/calls", JournalHandler, {"read": journal.calls_summary}),
            (r"/healthz", HealthHandler),
        ],
        default_handler_class=UnknownHandler,
        # Tornado's own line has the full query, number and code included.
        log_function=lambda _handler: None,
    )


def _shown(phone: str) -> str:
    """Return a number fit for the log; anything else is not quoted at all."""
    return mask_phone(phone) if phone.isdecimal() and len(phone) == _PHONE_DIGITS else "****"


class QuietHandler(RequestHandler):
    """A handler whose failures are logged without the request."""

    def log_exception(self, typ: Any, value: Any, tb: Any) -> None:
        """Log where it failed, but no text of the error: it may quote an argument."""
        if typ is not None and not isinstance(value, HTTPError):
            logger.error("%s in the sandbox\n%s", typ.__name__, "".join(traceback.format_tb(tb)))


class SendHandler(QuietHandler):
    """The vendor's request: `/?module=sms&file=send&action=send&...`, GET or POST."""

    def initialize(self, shared: Shared) -> None:
        """Take what all requests share."""
        self.shared = shared
        self._gone = asyncio.Event()

    def on_connection_close(self) -> None:
        """Note that the client disconnected, or that the server is stopping."""
        self._gone.set()

    async def get(self) -> None:
        """Check the request, record it, start its reports, and respond."""
        self.shared.track()
        journal = self.shared.journal
        arguments = {name: self.get_argument(name, "") for name in _ARGUMENTS}
        authorization = self.request.headers.get("Authorization", "")
        if refused := refusal(authorization, arguments, self.shared.secret):
            journal.count_refusal(refused.name)
            logger.info("refused: %s", refused.name)
            await self._respond(Behaviour(code=400, msg=refused.msg), mid="")
            return
        phone, template = arguments["mobphone"], arguments["smstemplate"]
        mood, outcome = self.shared.mood(), outcome_for(phone)
        name = mood.name if mood.behaviour else outcome.name
        n = journal.count_request(phone, name)
        behaviour = mood.behaviour or (outcome.first if n == 1 else outcome.later)
        mid = journal.accept(phone, template, name) if behaviour.accepts else ""
        logger.info("%s request %d: %s, %s", _shown(phone), n, name, mid or "not accepted")
        if behaviour.accepts:
            reports = self.shared.pusher.start(behaviour.pushes, mid)
            if behaviour.report_first:
                await asyncio.wait({reports}, timeout=EARLY_WAIT_S)
        await self._respond(behaviour, mid)
        if self._gone.is_set():
            logger.info("%s request %d: closed before the response", _shown(phone), n)

    async def post(self) -> None:
        """Handle it as GET: arguments may be in the query or in a form."""
        await self.get()

    async def _respond(self, behaviour: Behaviour, mid: str) -> None:
        await respond(Exchange(self, behaviour, mid, self._gone, self.shared.slow_s))


class JournalHandler(QuietHandler):
    """What the journal holds, as JSON."""

    def initialize(self, read: Callable[..., dict[str, Any]]) -> None:
        """Take the journal's method that this path shows."""
        self._read = read

    def get(self, *arguments: str) -> None:
        """Write what the method returns for the arguments in the path."""
        self.write(self._read(*arguments))


class HealthHandler(QuietHandler):
    """Whether the sandbox is up."""

    def get(self) -> None:
        """Write ok."""
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.write("ok")


class UnknownHandler(QuietHandler):
    """Any other path."""

    def prepare(self) -> None:
        """Raise a 404."""
        raise HTTPError(404)
