"""Making any Celery message safe to take, whoever wrote it.

Other languages write protocol-2 messages by hand. A mistake there must neither end the worker nor
block the queue (in Celery a missing id does), and must not show a number: a message that cannot be
understood gets arguments that the contract refuses, so that it fails under its id, with
local:invalid. Celery's eta and expires are refused, too: such messages would wait in a worker's
memory, or vanish.
"""

from __future__ import annotations

import re
from typing import Any, Final

from celery import Task
from celery.worker import strategy as celery_strategy
from celery.worker.request import Request
from kombu.utils.json import dumps

from smsq_worker.celery_worker.envelope import is_in_ledger

MASK: Final = "(masked)"
EMBEDDED: Final = frozenset({"callbacks", "errbacks", "chain", "chord"})
"""What Celery embeds in a body. Any other name would override a field of the request."""
OWN_ARGUMENTS: Final = re.compile(
    r"\(('[0-9]{3}\*{4}[0-9]{4}', '.{1,64}')?\)"
    # A mid of few digits could be a number: whoever knows the URL can invent reports.
    r"|\('(?![0-9]{1,15}')[0-9A-Za-z_-]{1,64}', '([A-Z]{2}:[0-9]{1,6}|[A-Z]{1,16})'\)"
    r"|\([0-9]{1,5} (messages|reports)\)"
)


class MaskedRequest(Request):
    """A request that shows its arguments nowhere: not in events, remote control or logs."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Our own show a masked number, or a report; what any other message says cannot be trusted.
        is_own = is_in_ledger(self.message) and OWN_ARGUMENTS.fullmatch(f"{self.argsrepr}")
        self._argsrepr = self.argsrepr if is_own else MASK
        self._kwargsrepr = MASK

    def info(self, safe: bool = False) -> Any:  # noqa: ARG002
        """Describe the request to remote control, and so to Flower."""
        return super().info(safe=True)

    def revoked(self) -> bool:
        """Return whether a message that others wrote was revoked before a worker took it.

        One that is in the ledger is cancelled there, see remote_control.py: to drop its wake-up
        would only delay it.
        """
        return not is_in_ledger(self.message) and bool(super().revoked())

    def cancel(self, *_: Any, **__: Any) -> None:
        """Leave the task alone: Celery's cold shutdown would signal its own process.

        What is under way is for `Sender.abandon`, or is done again.
        """


class PoolRequest(MaskedRequest):
    """A request that a thread of the pool runs; while enough are in hand no more are taken."""

    app: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.app.gate.pool.add(self)

    def acknowledge(self) -> None:
        """Acknowledge the message, which is done with."""
        self.app.gate.pool.discard(self)
        super().acknowledge()

    def reject(self, requeue: bool = False) -> None:
        """Reject the message, which is done with."""
        self.app.gate.pool.discard(self)
        super().reject(requeue)


def strategy(task: Task[Any, Any], app: Any, consumer: Any, **options: Any) -> Any:
    """Wrap Celery's default strategy: sanitize the message, then take it."""
    take = celery_strategy.default(task, app, consumer, **options)

    def take_safely(message: Any, body: Any, *rest: Any) -> Any:
        if body is None:
            sanitize(message)
        return take(message, body, *rest)

    return take_safely


def sanitize(message: Any) -> None:
    """Make a protocol-2 message one that Celery can take."""
    headers = message.headers
    problems = {name: True for name in ("eta", "expires") if headers.pop(name, None) is not None}
    args, kwargs, embedded = _arguments(message)
    if embedded is None:
        problems["bad_body"] = True
    if problems or embedded:
        _replace_body(message, [args, kwargs | problems, {}])


def _arguments(message: Any) -> tuple[list[Any], dict[str, Any], bool | None]:
    """Return the arguments, and whether Celery would do more than run the task; None if invalid."""
    try:
        args, kwargs, embed = message.payload
    except Exception:  # noqa: BLE001 - on invalid input any decoder may raise anything
        return [], {}, None
    if isinstance(args, list) and isinstance(kwargs, dict):
        # A worker would publish a stranger's callbacks and chords, and invalid ones would end it.
        is_plain = isinstance(embed, dict) and embed.keys() <= EMBEDDED and not any(embed.values())
        return args, kwargs, not is_plain
    return [], {}, None


def _replace_body(message: Any, body: list[Any]) -> None:
    try:
        message.body = dumps(body)
    except Exception:  # noqa: BLE001 - nested too deeply; others have come from kombu's decoder
        body = [[], {"bad_body": True}, {}]
        message.body = dumps(body)
    message.content_type = "application/json"
    message.content_encoding = "utf-8"
    message._decoded_cache = body  # noqa: SLF001 - kombu keeps the decoded body here
