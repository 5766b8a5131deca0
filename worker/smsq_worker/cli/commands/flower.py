"""`smsq flower`: Flower with the shipped configuration."""

from __future__ import annotations

import os
from importlib.resources import files

import click

from smsq_worker.cli.helpers.celery_command import CeleryCommand, exec_celery
from smsq_worker.cli.helpers.options import examples


@click.command(
    cls=CeleryCommand,
    epilog=examples(
        "smsq flower",
        "FLOWER_BASIC_AUTH=operator:secret SMSQ_FLOWER_BIND=0.0.0.0:5555 smsq flower",
        "smsq flower --url_prefix=flower",
    ),
)
def flower(options: tuple[str, ...]) -> None:
    """Start Flower with smsq's settings; takes Flower's own options, listed below.

    Exits with 2 where a setting is wrong; otherwise with Flower's exit code.
    """
    from smsq.errors import SettingsError
    from smsq_worker.config.parsers import is_loopback
    from smsq_worker.config.settings import Settings
    from smsq_worker.infra.ports import require_free

    for option in options:
        # It would bypass the check of SMSQ_FLOWER_BIND.
        if option.lstrip("-").partition("=")[0] in {"address", "port"}:
            raise SettingsError([f"{option}: set SMSQ_FLOWER_BIND instead"])
    settings = Settings.load(os.environ)
    host, port = settings.flower_bind
    if not is_loopback(host) and not os.environ.get("FLOWER_BASIC_AUTH"):
        problem = f"must be user:password, because SMSQ_FLOWER_BIND, {host}, is not loopback"
        raise SettingsError([f"FLOWER_BASIC_AUTH: {problem}"])
    require_free(settings.flower_bind, "SMSQ_FLOWER_BIND")
    exec_celery(
        "flower",
        f"--conf={files('smsq_worker.celery_worker').joinpath('flower_config.py')}",
        f"--address={host}",
        f"--port={port}",
        *options,
    )
