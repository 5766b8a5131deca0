"""`smsq sandbox`: run the sandbox gateway, or print what it can do."""

from __future__ import annotations

import logging
import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from smsq_worker.cli.helpers.options import examples
from smsq_worker.cli.helpers.output import echo, echo_json
from smsq_worker.i18n import _

if TYPE_CHECKING:
    from smsq_worker.config.settings import Settings
    from smsq_worker.sandbox import Sandbox

log = logging.getLogger(__name__)

_seconds = partial(click.option, type=click.FloatRange(min=0), show_default=True)


@click.command(
    epilog=examples(
        "smsq sandbox --outcomes",
        "smsq sandbox --report-url http://127.0.0.1:8080/reports/TOKEN",
        "SMSQ_GATEWAY_URL=http://127.0.0.1:8090/ smsq worker",
    )
)
@click.option(
    "--bind",
    metavar="HOST:PORT",
    help="Where to listen, instead of SMSQ_SANDBOX_BIND; port 0 takes a free one.",
)
@click.option(
    "--report-url",
    metavar="URL",
    help="Where to POST reports, instead of SMSQ_SANDBOX_REPORT_URL. Without it none are sent.",
)
@_seconds("--report-delay", default=1.0, help="Seconds from acceptance to the report.")
@_seconds("--slow", default=2.0, help="Seconds that the slow outcomes take.")
@click.option(
    "--log",
    "log_path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Append a line of JSON for every accepted request to this file.",
)
@click.option("--outcomes", is_flag=True, help="Print which numbers do what, and exit.")
@click.option("--json", "as_json", is_flag=True, help="With --outcomes: print JSON.")
def sandbox(
    *,
    bind: str | None,
    report_url: str | None,
    report_delay: float,
    slow: float,
    log_path: Path | None,
    outcomes: bool,
    as_json: bool,
) -> None:
    """Run a gateway that behaves like the vendor's, and sends no SMS.

    The last four digits of a number choose what happens to it: see --outcomes. The secret that
    clients must send is SMSQ_APP_SECRET, or the content of the file SMSQ_APP_SECRET_FILE.

    Exits with 2 where a setting is wrong or the address is taken.
    """
    from smsq_worker.config.settings import Settings
    from smsq_worker.infra import logs
    from smsq_worker.sandbox import Sandbox

    if outcomes:
        _show_outcomes(as_json=as_json)
        return
    if as_json:
        raise click.UsageError(_("--json goes with --outcomes"))
    options = {"SMSQ_SANDBOX_BIND": bind, "SMSQ_SANDBOX_REPORT_URL": report_url}
    given = {name: text for name, text in options.items() if text is not None}
    settings = Settings.load(os.environ | given, need=("app_secret",))
    gateway = Sandbox(
        secret=settings.app_secret,
        report_url=settings.sandbox_report_url or None,
        bind=settings.sandbox_bind,
        report_delay_s=report_delay,
        slow_s=slow,
        log_path=log_path,
    )
    # Only the sandbox's own lines at INFO: Tornado's might quote a request.
    logs.to_stderr(settings.log_format, logging.WARNING, text="%(asctime)s %(message)s")
    for own in (log, logging.getLogger("smsq_worker.sandbox")):
        own.setLevel(logging.INFO)
    _run(gateway, settings)


def _run(gateway: Sandbox, settings: Settings) -> None:
    from smsq.errors import SettingsError
    from smsq_worker.infra import logs
    from smsq_worker.sandbox import BindError

    announce = partial(logs.announce, log, settings.log_format)

    def on_ready(url: str) -> None:
        announce(f"Sandbox gateway ready: {url}/")
        if not settings.sandbox_report_url:
            announce("No reports will be sent: SMSQ_SANDBOX_REPORT_URL is not set.")

    try:
        gateway.run(on_ready)
    except BindError as error:
        raise SettingsError(
            [f"SMSQ_SANDBOX_BIND (--bind): cannot listen on {error}; set another HOST:PORT"]
        ) from None
    except OSError as error:
        if error.filename is None:
            raise
        raise SettingsError([f"--log: cannot write {error.filename}: {error.strerror}"]) from None


def _show_outcomes(*, as_json: bool) -> None:
    from smsq_worker.cli.helpers.layout import padded
    from smsq_worker.i18n.told import told
    from smsq_worker.sandbox import OUTCOMES

    if as_json:
        echo_json([{"digits": o.digits, "name": o.name, "words": o.words} for o in OUTCOMES])
        return
    width = max(len(row.name) for row in OUTCOMES)
    rows = [(_("ends in"), _("name"), _("what happens"))]
    rows += [(_(row.digits), row.name, told(row.words)) for row in OUTCOMES]
    for digits, name, words in rows:
        echo(f"{padded(digits, 9)}  {padded(name, width)}  {words}")
