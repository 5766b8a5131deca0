"""`smsq flower`: Flower with the shipped configuration."""

from __future__ import annotations

import os
import sys
from importlib.resources import files

import click

from smsq.errors import SettingsError
from smsq_worker.cli.helpers.wrapped import introduce
from smsq_worker.config.parsers import is_loopback
from smsq_worker.config.settings import Settings
from smsq_worker.infra.ports import require_free

# What follows \b is printed as it stands.
_EXAMPLES = """\b
Examples:
  smsq flower
  FLOWER_BASIC_AUTH=operator:secret SMSQ_FLOWER_BIND=0.0.0.0:5555 smsq flower
  smsq flower --url_prefix=flower
"""


@click.command(
    epilog=_EXAMPLES,
    context_settings={"ignore_unknown_options": True, "help_option_names": []},
    add_help_option=False,
)
@click.argument("options", metavar="", nargs=-1, type=click.UNPROCESSED)
def flower(options: tuple[str, ...]) -> None:
    """Start Flower with smsq's settings; takes Flower's own options, which stand below.

    Exits with 2 where a setting is wrong; else with what Flower exits.
    """
    introduce(options)
    _refuse_address(options)
    settings = Settings.load(os.environ)
    host, port = settings.flower_bind
    if not is_loopback(host) and not os.environ.get("FLOWER_BASIC_AUTH"):
        problem = f"must be user:password, because SMSQ_FLOWER_BIND, {host}, is not loopback"
        raise SettingsError([f"FLOWER_BASIC_AUTH: {problem}"])
    require_free(settings.flower_bind, "SMSQ_FLOWER_BIND")
    command = [
        *(sys.executable, "-m", "celery", "-A", "smsq_worker", "flower"),
        f"--conf={files('smsq_worker.celery_worker').joinpath('flower_config.py')}",
        f"--address={host}",
        f"--port={port}",
        *options,
    ]
    os.execv(sys.executable, command)  # noqa: S606


def _refuse_address(options: tuple[str, ...]) -> None:
    """Refuse an address that would go round the check of SMSQ_FLOWER_BIND."""
    for option in options:
        if option.lstrip("-").partition("=")[0] in {"address", "port"}:
            raise SettingsError([f"{option}: set SMSQ_FLOWER_BIND instead"])
