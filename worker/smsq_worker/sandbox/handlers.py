"""The sandbox's HTTP: the vendor's one request, and what was accepted, for tests to read."""

from __future__ import annotations

import asyncio
import hmac
import logging
import traceback
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from tornado.web import Application, HTTPError, RequestHandler

from smsq.contract import mask_phone
from smsq_worker.sandbox.behaviour import MOODS, Behaviour
from smsq_worker.sandbox.outcomes import outcome_for
from smsq_worker.sandbox.responses import respond

if TYPE_CHECKING:
    from smsq_worker.sandbox.server import Sandbox

logger = logging.getLogger(__name__)

# An early report whose receiver is away must not hold the response for all its retries.
EARLY_WAIT_S = 5.0
_PHONE_DIGITS = 11
_ROUTE = {"module": "sms", "file": "send", "action": "send"}
_ARGUMENTS = (*_ROUTE, "mobphone", "smstemplate")


def application(sandbox: Sandbox) -> Application:
    """Return the Tornado application of a sandbox."""
    journal = sandbox.journal
    return quiet_application(
        (r"/", _SendHandler, {"sandbox": sandbox}),
        (r"/sandbox/accepted", _JournalHandler, {"read": journal.accepted_summary}),
        (r"/sandbox/accepted/([^/]+)", _JournalHandler, {"read": journal.number_summary}),
        (r"/sandbox/calls", _JournalHandler, {"read": journal.calls_summary}),
    )


def quiet_application(*handlers: tuple[Any, ...]) -> Application:
    """Return an application of these handlers, and one for health, that logs no request."""
    return Application(
        [*handlers, (r"/healthz", _HealthHandler)],
        default_handler_class=_UnknownHandler,
        # Tornado's own line has the full query, number and code included.
        log_function=lambda _handler: None,
    )


def _refusal(
    authorization: str, arguments: Mapping[str, str], secret: str
) -> tuple[str, str] | None:
    """Return why a request is refused, or None if it is valid.

    First a name for the counts, then the words for the client.

    `authorization` is the header as HTTP delivers it: its bytes read as Latin-1.
    """
    if not hmac.compare_digest(authorization.encode("latin-1"), secret.encode()):
        return ("wrong-secret", "校验失败")
    if any(arguments[name] != value for name, value in _ROUTE.items()):
        return ("wrong-route", "接口不存在")
    if not arguments["mobphone"]:
        return ("no-mobphone", "手机号码不能为空")
    if not arguments["smstemplate"]:
        return ("no-smstemplate", "短信模板不能为空")
    return None


def _shown(phone: str) -> str:
    """Return a number fit for the log; anything else is not quoted at all."""
    return mask_phone(phone) if phone.isdecimal() and len(phone) == _PHONE_DIGITS else "****"


class QuietHandler(RequestHandler):
    """A handler whose failures are logged without the request."""

    def log_exception(self, typ: Any, value: Any, tb: Any) -> None:
        """Log where it failed, but no text of the error: it may quote an argument."""
        if typ is not None and not isinstance(value, HTTPError):
            logger.error("%s in the sandbox\n%s", typ.__name__, "".join(traceback.format_tb(tb)))


class _SendHandler(QuietHandler):
    """The vendor's request: `/?module=sms&file=send&action=send&...`, GET or POST."""

    def initialize(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self._gone = asyncio.Event()

    def on_connection_close(self) -> None:
        # The client disconnected, or the server is stopping.
        self._gone.set()

    async def get(self) -> None:
        sandbox, journal = self._sandbox, self._sandbox.journal
        sandbox.track()
        arguments = {name: self.get_argument(name, "") for name in _ARGUMENTS}
        authorization = self.request.headers.get("Authorization", "")
        if refused := _refusal(authorization, arguments, sandbox.secret):
            name, msg = refused
            journal.count_refusal(name)
            logger.info("refused: %s", name)
            await self._respond(Behaviour(code=400, msg=msg), mid="")
            return
        phone, template = arguments["mobphone"], arguments["smstemplate"]
        mood, outcome = sandbox.mood, outcome_for(phone)
        of_all = MOODS[mood]
        name = mood if of_all else outcome.name
        n = journal.count_request(phone, name)
        behaviour = of_all or (outcome.first if n == 1 else outcome.later)
        mid = journal.accept(phone, template, name) if behaviour.accepts else ""
        logger.info("%s request %d: %s, %s", _shown(phone), n, name, mid or "not accepted")
        if behaviour.accepts:
            reports = sandbox.pusher.start(behaviour.pushes, mid)
            if behaviour.report_first:
                await asyncio.wait({reports}, timeout=EARLY_WAIT_S)
        await self._respond(behaviour, mid)
        if self._gone.is_set():
            logger.info("%s request %d: closed before the response", _shown(phone), n)

    # Arguments may be in the query or in a form.
    post = get

    async def _respond(self, behaviour: Behaviour, mid: str) -> None:
        await respond(self, behaviour, mid, self._gone, self._sandbox.slow_s)


class _JournalHandler(QuietHandler):
    """What the journal holds, as JSON: by the method that this path shows."""

    def initialize(self, read: Callable[..., dict[str, Any]]) -> None:
        self._read = read

    def get(self, *arguments: str) -> None:
        self.write(self._read(*arguments))


class _HealthHandler(QuietHandler):
    def get(self) -> None:
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.write("ok")


class _UnknownHandler(QuietHandler):
    def prepare(self) -> None:
        raise HTTPError(404)
