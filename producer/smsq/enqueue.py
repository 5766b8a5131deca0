"""Entering a message in the ledger; each act is a Lua file beside this one."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Final

from smsq import keys
from smsq.connection import Client, mapped_errors
from smsq.contract import KEY_TTL_S, Lane, Message, OnAmbiguous, State, mask_phone
from smsq.settings import ProducerSettings

FIRST_CHECK_S = 30
"""When the clock first asks whether a message's wake-up was lost on the way to a worker."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Who sent a message through the relay, and where that caller awaits its outcome."""

    caller: str = ""
    """A name of SMSQ_RELAY_CALLERS_FILE; "" for the holder of SMSQ_RELAY_SECRET."""
    return_url: str = field(default="", repr=False)


NO_ORIGIN: Final = Origin()


class Entrance:
    """The one way into the ledger, for producers and for a worker that meets a bare message."""

    def __init__(self, client: Client, settings: ProducerSettings) -> None:
        self._client = client
        self._settings = settings
        self._enqueue = client.register_script(_lua("enqueue"))
        self._unpublished = client.register_script(_lua("unpublished"))

    def enter(self, message_id: str, message: Message, origin: Origin = NO_ORIGIN) -> State:
        """Write a message; give its state: queued, deferred, duplicate, or what it was already.

        Raises LedgerUnavailable.
        """
        return self._write(
            message_id,
            lane=message.lane,
            payload=json.dumps([message.phone, message.code], ensure_ascii=False),
            ttl_s=message.ttl_s,
            send_at=message.send_at or 0,
            key=message.key,
            details=_details(message, origin),
        )

    def refuse(self, message_id: str, why: str) -> State:
        """Write that a message from outside breaks the rules: failed, local:invalid."""
        return self._write(message_id, lane=Lane.NOTICE, refusal=why)

    def unpublished(self, message_id: str) -> None:
        """Note that a wake-up could not be published, so that the clock does it at once."""
        with mapped_errors(self._settings.redis_url):
            self._unpublished(keys=[keys.message(message_id), keys.TIMERS], args=[message_id])

    def _write(
        self,
        message_id: str,
        *,
        lane: Lane,
        payload: str = "",
        ttl_s: float = 0,
        send_at: float = 0,
        key: str | None = None,
        refusal: str = "",
        details: tuple[str, ...] = (),
    ) -> State:
        with mapped_errors(self._settings.redis_url):
            state = self._enqueue(
                keys=[
                    keys.message(message_id),
                    keys.payload(message_id),
                    keys.TIMERS,
                    keys.COUNTERS,
                    keys.idempotency(key or ""),
                    keys.LIVE,
                ],
                args=[
                    message_id,
                    lane,
                    payload,
                    round(ttl_s * 1000),
                    round(send_at * 1000),
                    FIRST_CHECK_S * 1000,
                    self._settings.retention_s * 1000,
                    KEY_TTL_S * 1000 if key else 0,
                    refusal,
                    *details,
                ],
            )
        return State(state)


def _lua(name: str) -> str:
    return files("smsq").joinpath(f"{name}.lua").read_text(encoding="utf-8")


def _details(message: Message, origin: Origin) -> tuple[str, ...]:
    pairs = {
        "template": message.template,
        "phone": mask_phone(message.phone),
        "who": keys.who(message.phone),
        "reference": message.reference,
        "notify": message.notify,
        "caller": origin.caller,
        "returnurl": origin.return_url,
        "hold": "1" if message.on_ambiguous is OnAmbiguous.HOLD else None,
    }
    return tuple(part for name, value in pairs.items() if value for part in (name, value))
