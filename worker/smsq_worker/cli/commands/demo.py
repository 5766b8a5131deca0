"""`smsq demo`: a complete stack at work, checked."""

from __future__ import annotations

from smsq_worker.cli.helpers.options import command


@command("smsq demo", "SMSQ_HOME=/tmp/smsq smsq demo")
def demo() -> None:
    """Send about a hundred messages of all kinds through a complete stack, and check each outcome.

    It starts its own Redis, sandbox gateway, HTTP API, worker and Flower, whatever the settings
    say, and stops them again. Exits with 1 where a message did not end as its number demands.
    """
    from smsq_worker.cli.views.demo import run_demo

    raise SystemExit(0 if run_demo() else 1)
