"""Waiting until replicas have what was written: SMSQ_REDIS_WAIT_REPLICAS."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from redis.exceptions import NoScriptError

from smsq import deadline
from smsq.connection import Client

WITHIN_MS: Final = 1000
"""How long a write may be on its way."""


def run_and_wait(
    client: Client, script: Any, args: Sequence[Any], replicas: int, *, keys: Any = ()
) -> tuple[Any, bool]:
    """Run a script; give its answer, and whether so many replicas have what it wrote.

    WAIT counts for the writes of its own connection, so both go over one. A script cannot wait
    itself.
    """
    if not replicas:
        return script(keys=list(keys), args=list(args)), True
    for _ in range(2):
        pipe = client.pipeline(transaction=False)
        pipe.evalsha(script.sha, len(keys), *keys, *args)
        # 0 would be for ever. Less than half of the time, which is what one try has.
        pipe.wait(replicas, max(1, int(min(WITHIN_MS, 400 * deadline.left_s()))))
        answer, acknowledged = pipe.execute(raise_on_error=False)
        if not isinstance(answer, NoScriptError):
            break
        client.script_load(script.script)
    for reply in (answer, acknowledged):
        if isinstance(reply, Exception):
            raise reply
    is_safe = acknowledged >= replicas
    if not is_safe:
        # Its replicas may have gone to another primary: the next connection asks for that.
        client.connection_pool.disconnect(inuse_connections=False)
    return answer, is_safe
