"""`smsq worker`: Celery's own worker on our app."""

from __future__ import annotations

from smsq_worker.cli.helpers.celery_command import CeleryCommand, exec_celery
from smsq_worker.cli.helpers.options import command
from smsq_worker.cli.helpers.output import echo_lines


@command(
    "smsq worker",
    "smsq worker --loglevel WARNING --concurrency 96",
    "smsq worker -Q sms.otp,sms.report      a machine for otp alone",
    cls=CeleryCommand,
)
def worker(options: tuple[str, ...]) -> None:
    """Start a Celery worker; takes Celery's own options, listed below.

    Exits with 2 where a setting or an option is wrong; otherwise with the exit code of Celery's
    worker.
    """
    from smsq_worker.celery_worker.options import refused
    from smsq_worker.i18n.told import told

    # Before Celery sees them: it would replace this process' threads, or fail with a traceback.
    if problems := refused(options):
        echo_lines((f"smsq: {told(line)}" for line in problems), err=True)
        raise SystemExit(2)
    exec_celery("worker", *options)
