"""Making any Celery message of ours safe to take, whoever wrote it.

Other languages write protocol-2 messages by hand. A mistake there must neither end the worker
nor block the queue (a missing id does, in Celery), and must not show a number: what cannot be
understood is turned into arguments that the contract refuses, so that it ends as failed,
local:invalid, under its id. Celery's eta and expires are refused too: such messages would wait
in a worker's memory, or vanish.
"""

from __future__ import annotations

import re
from typing import Any, Final

from celery import Task
from celery.worker import strategy as celery_strategy
from celery.worker.request import Request
from kombu.utils.json import dumps

MASK: Final = "(masked)"
EMBEDDED: Final = frozenset({"callbacks", "errbacks", "chain", "chord"})
"""What Celery embeds in a body. Any other name would take the place of a request's own field."""
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


def strategy(task: Task[Any, Any], app: Any, consumer: Any, **options: Any) -> Any:
    """Wrap Celery's default strategy: mend the message, then take it."""
    if consumer.event_dispatcher:
        # Threads fill the dispatcher's buffer without its lock: events would be lost, and Flower
        # would show tasks that never end. Without a buffer each is sent at once, under the lock.
        consumer.event_dispatcher.buffer_group = frozenset()
    take = celery_strategy.default(task, app, consumer, **options)

    def take_safely(message: Any, body: Any, *rest: Any) -> Any:
        if body is None:
            mend(message)
        return take(message, body, *rest)

    return take_safely


def mend(message: Any) -> None:
    """Make a protocol-2 message one that Celery can take."""
    headers = message.headers
    problems = {name: True for name in ("eta", "expires") if headers.pop(name, None) is not None}
    args, kwargs, embedded = _arguments(message)
    if embedded is None:
        problems["bad_body"] = True
    if problems or embedded:
        _replace_body(message, [args, kwargs | problems, {}])


def _arguments(message: Any) -> tuple[list[Any], dict[str, Any], bool | None]:
    """Give the arguments, and whether Celery would do more than run the task; None for rubbish."""
    try:
        args, kwargs, embed = message.payload
    except Exception:  # noqa: BLE001 - any decoder may raise anything on rubbish
        return [], {}, None
    if isinstance(args, list) and isinstance(kwargs, dict):
        # Callbacks and chords of a stranger are published by the worker, and rubbish there ends it.
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
