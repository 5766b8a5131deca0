"""The relay: accepts the gateway's own request, so that a client changes only its host."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Final
from urllib.parse import urlsplit
from uuid import uuid4

from anyio import CapacityLimiter, to_thread
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse

from smsq import deadline, tracing
from smsq.contract import Message, parse, relay_space
from smsq.entries import Origin
from smsq.errors import CampaignCancelled, InvalidMessage, LedgerUnavailable, SettingsError
from smsq.tasks import enqueue
from smsq_worker.api.auth import Authenticator
from smsq_worker.api.body import BODY_TIMEOUT_S, read_body
from smsq_worker.api.clients import Caller
from smsq_worker.api.ignored import IgnoredParameters
from smsq_worker.api.throttle import too_many
from smsq_worker.config.parsers import target_url
from smsq_worker.config.settings import Settings
from smsq_worker.i18n import Lang
from smsq_worker.i18n.told import told
from smsq_worker.ledger import Ledger
from smsq_worker.vendors.oneoc import relay_request as gateway

log = logging.getLogger(__name__)

THREADS: Final = 20
MAX_URL: Final = 2048


class Relay:
    """Takes messages as the gateway would."""

    def __init__(
        self,
        settings: Settings,
        ledger: Ledger,
        authenticator: Authenticator,
        *,
        body_timeout_s: float = BODY_TIMEOUT_S,
    ) -> None:
        self._settings = settings
        self._authenticator = authenticator
        self._ignored = IgnoredParameters()
        self._ledger = ledger
        self._body_timeout_s = body_timeout_s
        # Separate, so that a crowd of senders never keeps a report waiting for a thread.
        self._threads = CapacityLimiter(THREADS)

    async def take(self, request: Request) -> JSONResponse:
        """Enqueue a message, and answer as the gateway does: `code` is not the HTTP status.

        `mid` is the message's id; for a repeated `key` that of the first message with it.
        HTTP 429 where the caller's rate or the source's allowance is used up, 503 where the
        ledger cannot be reached, each with code 400. `msg` is Chinese where Accept-Language asks.
        """
        lang = Lang.preferred(request.headers.get("accept-language", ""))
        try:
            mid = await self._take(request)
        except HTTPException as error:
            if error.status_code == 401:  # noqa: PLR2004
                return JSONResponse(gateway.refusal(gateway.WRONG_SECRET))
            refusal = gateway.refusal(told(error.detail, lang))
            return JSONResponse(refusal, error.status_code, error.headers)
        except (InvalidMessage, CampaignCancelled) as error:
            return JSONResponse(gateway.refusal(gateway.as_sent(told(str(error), lang))))
        except (LedgerUnavailable, SettingsError) as error:
            # SettingsError: the ledger is encrypted with keys that this process does not have.
            log.warning("a relayed message was not taken: %s", error)
            return JSONResponse(gateway.refusal(told("try again", lang)), 503)
        return JSONResponse(gateway.ok(mid))

    async def _take(self, request: Request) -> str:
        caller = self._authenticator.caller(request)
        body = await read_body(request, self._body_timeout_s)
        query, content_type = request.scope["query_string"], request.headers.get("content-type", "")
        within = deadline.within(self._settings.enqueue_timeout_s)
        with within, tracing.following(request.headers.get("traceparent", "")):
            return await to_thread.run_sync(
                self._enqueue, caller, query, content_type, body, limiter=self._threads
            )

    def _enqueue(self, caller: Caller, query: bytes, content_type: str, body: bytes) -> str:
        if caller.rate_per_s is not None:
            wait_s = self._ledger.relay_wait_s(caller.name, caller.rate_per_s)
            if wait_s:
                raise too_many(f"at most {caller.rate_per_s:g} requests a second", wait_s)
        given = gateway.read(query, content_type, body, ignored=self._ignored.note)
        message = _message(caller, given)
        origin = Origin(caller.name, self._return_url(given.get("returnurl", "")))
        message_id = uuid4().hex
        return enqueue(message_id, message, origin).duplicate_of or message_id

    def _return_url(self, url: str) -> str:
        if url and not allowed_target(
            url, self._settings.outbound_allow, self._settings.return_url
        ):
            raise InvalidMessage(
                f"returnurl must be an https URL of at most {MAX_URL} characters, without user or "
                "fragment, to a host that SMSQ_OUTBOUND_ALLOW names or to SMSQ_RETURN_URL's; "
                "plain http only to those of SMSQ_OUTBOUND_ALLOW"
            )
        return url or self._settings.return_url


def allowed_target(url: str, outbound_allow: frozenset[str], return_url: str) -> bool:
    """Return whether callbacks may be POSTed to a URL that a caller names."""
    try:
        parts = urlsplit(target_url(url))
    except ValueError:
        return False
    host = parts.hostname
    safe = parts.scheme == "https" and host == urlsplit(return_url).hostname
    return len(url) <= MAX_URL and (safe or host in outbound_allow)


def _message(caller: Caller, given: Mapping[str, str]) -> Message:
    message = parse(
        [given.get(name, "") for name in ("mobphone", "smstemplate", "code")],
        {
            "lane": given.get("lane") or caller.lanes[0],
            "ttl_s": _number(given.get("ttl_s", "")),
            "key": given.get("key") or None,
            "campaign": given.get("campaign") or None,
        },
    )
    if message.lane not in caller.lanes:
        raise InvalidMessage(
            f"lane must be one of {', '.join(caller.lanes)} for this caller; got {message.lane}"
        )
    # Callers are strangers to each other: nobody's campaign is another's.
    campaign = message.campaign
    if campaign and caller.name:
        campaign = f"{caller.name}:{campaign}"
    # Release 0.2.0 has no key spaces, and expects the name in the key. A name has no colon.
    key = f"{caller.name}:{message.key}" if message.key and caller.name else message.key
    return replace(message, key=key, key_space=relay_space(caller.name), campaign=campaign)


def _number(text: str) -> float | str | None:
    """Read a number; return other text as it is, for `parse` to refuse."""
    try:
        return float(text) if text else None
    except ValueError:
        return text
