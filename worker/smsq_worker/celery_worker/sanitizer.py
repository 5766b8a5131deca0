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

from smsq_worker.sending.consumer_gate import RequeueLater

MASK: Final = "(masked)"
EMBEDDED: Final = frozenset({"callbacks", "errbacks", "chain", "chord"})
"""What Celery embeds in a body. Any other name would override a field of the request."""
OWN_ARGUMENTS: Final = re.compile(r"\(('[0-9]{3}\*{4}[0-9]{4}', '.{1,64}')?\)")


class MaskedRequest(Request):
    """A request that shows its arguments nowhere: not in events, remote control or logs."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Our own wake-ups show a masked number; what any other message says cannot be trusted.
        if not OWN_ARGUMENTS.fullmatch(f"{self.argsrepr}") or self.args or self.kwargs:
            self._argsrepr = MASK
        self._kwargsrepr = MASK

    def info(self, safe: bool = False) -> Any:  # noqa: ARG002
        """Describe the request to remote control, and so to Flower."""
        return super().info(safe=True)

    def on_failure(self, exc_info: Any, *args: Any, **options: Any) -> Any:
        """Mark the message of a batch that is given back with the ids that it is to wake up.

        The channel writes them into it. The others have been submitted, or have wake-ups of their
        own: without this the ledger would refuse the copies.
        """
        # A pool wraps what the task raised.
        error = getattr(exc_info.exception, "exc", exc_info.exception)
        reason = getattr(error, "reason", None)
        if isinstance(reason, RequeueLater):
            self.message.left = reason.left
        return super().on_failure(exc_info, *args, **options)


def strategy(task: Task[Any, Any], app: Any, consumer: Any, **options: Any) -> Any:
    """Wrap Celery's default strategy: sanitize the message, then take it."""
    if consumer.event_dispatcher:
        # Threads fill the dispatcher's buffer without its lock: events would be lost, and Flower
        # would show tasks that never end. Without a buffer each is sent at once, under the lock.
        consumer.event_dispatcher.buffer_group = frozenset()
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
