"""`smsq sandbox`: run the sandbox gateway, or print what it can do."""

from __future__ import annotations

import logging
import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click

from smsq_worker.cli.helpers.options import command
from smsq_worker.cli.helpers.output import echo, echo_json
from smsq_worker.i18n import _

if TYPE_CHECKING:
    from collections.abc import Callable

    from smsq_worker.config.settings import Settings
    from smsq_worker.sandbox import Sandbox, SandboxAccounts

log = logging.getLogger(__name__)

_seconds = partial(click.option, type=click.FloatRange(min=0), show_default=True)


@command(
    "smsq sandbox --outcomes",
    "smsq sandbox --report-url http://127.0.0.1:8080/reports/TOKEN",
    "SMSQ_GATEWAY_URL=http://127.0.0.1:8090/ smsq worker",
    "smsq sandbox --accounts accounts.toml",
    "curl -X POST http://127.0.0.1:8090/sandbox/accounts/main/silent",
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
@click.option(
    "--accounts",
    "accounts_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Play the accounts of this file, each at its own url; --bind is where they are switched.",
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
    accounts_file: Path | None,
    outcomes: bool,
    as_json: bool,
) -> None:
    """Run a gateway that behaves like the vendor's, and sends no SMS.

    The last four digits of a number choose what happens to it: see --outcomes. The secret that
    clients must send is SMSQ_APP_SECRET, or the content of the file SMSQ_APP_SECRET_FILE.

    With --accounts it plays each account of a file as of SMSQ_ACCOUNTS_FILE, with its own secret
    and reports. A POST to /sandbox/accounts/NAME/BEHAVIOUR at --bind switches one while it runs:
    normal, down, silent, 503, refused, no-balance, garbage. A GET of /sandbox/accounts shows all.

    Exits with 2 where a setting is wrong or the address is taken.
    """
    from smsq_worker.infra import logs
    from smsq_worker.sandbox import Sandbox

    if outcomes:
        _show_outcomes(as_json=as_json)
        return
    if as_json:
        raise click.UsageError(_("--json goes with --outcomes"))
    settings = _settings(accounts_file, bind, report_url)
    one = partial(Sandbox, report_delay_s=report_delay, slow_s=slow, log_path=log_path)
    gateway: Sandbox | SandboxAccounts
    if accounts_file:
        gateway = _several(settings, one)
    else:
        secret, url = settings.app_secret, settings.sandbox_report_url or None
        gateway = one(secret=secret, report_url=url, bind=settings.sandbox_bind)
    # Only the sandbox's own lines at INFO: Tornado's might quote a request.
    logs.to_stderr(settings.log_format, logging.WARNING, text="%(asctime)s %(message)s")
    for own in (log, logging.getLogger("smsq_worker.sandbox")):
        own.setLevel(logging.INFO)
    _run(gateway, settings)


def _settings(accounts_file: Path | None, bind: str | None, report_url: str | None) -> Settings:
    from smsq_worker.config.settings import Settings

    # Without --accounts the workers' own file is not about this one.
    given = {"SMSQ_ACCOUNTS_FILE": str(accounts_file or "")}
    given |= {"SMSQ_SANDBOX_BIND": bind} if bind is not None else {}
    given |= {"SMSQ_SANDBOX_REPORT_URL": report_url} if report_url is not None else {}
    return Settings.load(os.environ | given, need=("app_secret",))


def _several(settings: Settings, sandbox: Callable[..., Sandbox]) -> SandboxAccounts:
    """Return the accounts of a file. Raises SettingsError for one that cannot be played."""
    from smsq.errors import SettingsError
    from smsq_worker.domain.accounts import VENDOR
    from smsq_worker.sandbox import SandboxAccounts

    played: list[Sandbox] = []
    problems: list[str] = []
    taken = {settings.sandbox_bind: "SMSQ_SANDBOX_BIND (--bind)"}
    for one in settings.accounts:
        name, bind = one.account.name, _bind(one.address.url)
        place = f"accounts.{name}"
        if one.vendor != VENDOR:
            problems.append(f"{place}: the sandbox plays vendor {VENDOR}, and this is {one.vendor}")
        elif bind is None:
            problems.append(
                f"{place}: its url is {one.address.url}; to be played here it must be one of this "
                "machine with a port of its own, like http://127.0.0.1:8091/"
            )
        elif bind in taken:
            problems.append(f"{place}: its url has the port of {taken[bind]}; give each its own")
        else:
            secret, url = one.address.secret, _report_url(settings, one.report_token)
            played.append(sandbox(secret=secret, report_url=url, bind=bind, account=name))
        if bind is not None:
            taken.setdefault(bind, place)
    if problems:
        raise SettingsError([f"--accounts: {line}" for line in problems])
    return SandboxAccounts(settings.sandbox_bind, played)


def _bind(url: str) -> tuple[str, int] | None:
    """Return where an account's gateway listens; None where that cannot be here."""
    from smsq_worker.config.parsers import is_loopback

    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.port or not is_loopback(parts.hostname or ""):
        return None
    return parts.hostname or "", parts.port


def _report_url(settings: Settings, token: str) -> str | None:
    """Return an account's address for reports, which differ in their last part."""
    from smsq_worker.infra.ports import shown

    if not token:
        return None
    given = settings.sandbox_report_url or f"http://{shown(settings.api_bind)}/reports/TOKEN"
    return f"{given.rpartition('/')[0]}/{token}"


def _run(gateway: Sandbox | SandboxAccounts, settings: Settings) -> None:
    from smsq.errors import SettingsError
    from smsq_worker.infra import logs
    from smsq_worker.sandbox import BindError, Sandbox, run

    announce = partial(logs.announce, log, settings.log_format)

    def on_ready(url: str) -> None:
        if not isinstance(gateway, Sandbox):
            for name, where in gateway.urls.items():
                announce(f"Sandbox account {name} ready: {where}/")
            announce(f"Switches: POST {url}/sandbox/accounts/NAME/BEHAVIOUR")
            return
        announce(f"Sandbox gateway ready: {url}/")
        if not settings.sandbox_report_url:
            announce("No reports will be sent: SMSQ_SANDBOX_REPORT_URL is not set.")

    try:
        run(gateway.listening, on_ready)
    except BindError as error:
        where = "a url of --accounts, or " * (not isinstance(gateway, Sandbox))
        raise SettingsError(
            [f"{where}SMSQ_SANDBOX_BIND (--bind): cannot listen on {error}; set another HOST:PORT"]
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
