"""`smsq sandbox`: run the sandbox gateway, or print what it can do."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit

import click

from smsq_worker.sandbox import OUTCOMES, BindError, Sandbox

_MAX_PORT = 65535

# What follows \b is printed as it stands.
_EXAMPLES = """\b
Examples:
  smsq sandbox --outcomes
  smsq sandbox --report-url http://127.0.0.1:8080/reports/TOKEN
  SMSQ_GATEWAY_URL=http://127.0.0.1:8090/ smsq worker
"""


class BindType(click.ParamType[tuple[str, int]]):
    """HOST:PORT, the host in brackets where it is an IPv6 address."""

    name = "host:port"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, int]:
        """Return host and port."""
        host, _, port = str(value).rpartition(":")
        if not host or not port.isdecimal() or int(port) > _MAX_PORT:
            self.fail(f"{value!r} is not HOST:PORT with a port from 0 to {_MAX_PORT}", param, ctx)
        return host.removeprefix("[").removesuffix("]"), int(port)


def _http_url(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
    """Refuse what is no address, without repeating it: it holds the door's token."""
    if value and not (urlsplit(value).scheme in {"http", "https"} and urlsplit(value).hostname):
        raise click.BadParameter("must begin with http:// or https:// and name a host")
    return value or None


@click.command(epilog=_EXAMPLES)
@click.option(
    "--bind",
    type=BindType(),
    default="127.0.0.1:8090",
    envvar="SMSQ_SANDBOX_BIND",
    show_default=True,
    show_envvar=True,
    help="Where to listen; port 0 takes a free one.",
)
@click.option(
    "--report-url",
    callback=_http_url,
    envvar="SMSQ_SANDBOX_REPORT_URL",
    show_envvar=True,
    help="Where to POST reports. Without it none are sent.",
)
@click.option(
    "--report-delay",
    type=click.FloatRange(min=0),
    default=1.0,
    show_default=True,
    help="Seconds from acceptance to the report.",
)
@click.option(
    "--slow",
    type=click.FloatRange(min=0),
    default=2.0,
    show_default=True,
    help="Seconds that the slow outcomes take.",
)
@click.option(
    "--log",
    "log_path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Append a line of JSON for every accepted call to this file.",
)
@click.option("--outcomes", is_flag=True, help="Print which numbers do what, and exit.")
@click.option("--json", "as_json", is_flag=True, help="With --outcomes: print JSON.")
def sandbox(
    *,
    bind: tuple[str, int],
    report_url: str | None,
    report_delay: float,
    slow: float,
    log_path: Path | None,
    outcomes: bool,
    as_json: bool,
) -> None:
    """Run a gateway that behaves as the vendor's does, and sends no SMS.

    The last four digits of a number choose what happens to it: see --outcomes. The secret that
    callers must show is SMSQ_APP_SECRET, or the content of the file SMSQ_APP_SECRET_FILE.

    Exits with 2 where a setting is wrong or the address is taken.
    """
    if outcomes:
        click.echo(_outcomes_as_json() if as_json else _outcomes_as_text())
        return
    if as_json:
        raise click.UsageError("--json goes with --outcomes")
    gateway = Sandbox(
        secret=_secret(),
        report_url=report_url,
        bind=bind,
        report_delay_s=report_delay,
        slow_s=slow,
        log_path=log_path,
    )
    _log_to_stderr()
    _run(gateway, reports=report_url is not None)


def _run(gateway: Sandbox, *, reports: bool) -> None:
    def on_ready(url: str) -> None:
        click.echo(f"Sandbox gateway ready: {url}/")
        if not reports:
            click.echo("No reports will be sent: SMSQ_SANDBOX_REPORT_URL is not set.")

    try:
        gateway.run(on_ready)
    except BindError as error:
        _refuse(f"SMSQ_SANDBOX_BIND (--bind): cannot listen on {error}")
    except OSError as error:
        if error.filename is None:
            raise
        _refuse(f"--log: cannot write {error.filename}: {error.strerror}")


def _refuse(why: str) -> NoReturn:
    click.echo(why, err=True)
    raise SystemExit(2)


def _secret() -> str:
    secret = os.environ.get("SMSQ_APP_SECRET", "").strip()
    path = os.environ.get("SMSQ_APP_SECRET_FILE", "")
    if not secret and path:
        try:
            secret = Path(path).read_text(encoding="utf-8").strip()
        except OSError as error:
            _refuse(f"SMSQ_APP_SECRET_FILE: cannot read {path}: {error.strerror}")
    if not secret:
        _refuse("SMSQ_APP_SECRET: set it, or SMSQ_APP_SECRET_FILE, to what callers must show")
    return secret


def _log_to_stderr() -> None:
    # Only the sandbox's own lines at INFO: Tornado's might quote a request.
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s")
    logging.getLogger("smsq_worker.sandbox").setLevel(logging.INFO)


def _outcomes_as_json() -> str:
    rows = [{"digits": row.digits, "name": row.name, "words": row.words} for row in OUTCOMES]
    return json.dumps(rows, ensure_ascii=False, indent=2)


def _outcomes_as_text() -> str:
    name_width = max(len(row.name) for row in OUTCOMES)
    rows = [f"{row.digits:<9}  {row.name:<{name_width}}  {row.words}" for row in OUTCOMES]
    return "\n".join([f"{'ends in':<9}  {'name':<{name_width}}  what happens", *rows])
