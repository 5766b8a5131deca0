"""`smsq flower`: Flower with the shipped configuration."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from typing import Final

from smsq_worker.cli.helpers.celery_command import CeleryCommand, exec_celery
from smsq_worker.cli.helpers.options import command

INSTEAD: Final = {
    # They would bypass the check of SMSQ_FLOWER_BIND.
    "address": "set SMSQ_FLOWER_BIND instead",
    "port": "set SMSQ_FLOWER_BIND instead",
    # Another would open /metrics.
    "conf": "give the options themselves, or as FLOWER_... variables",
}


@command(
    "smsq flower",
    "FLOWER_BASIC_AUTH=operator:secret SMSQ_FLOWER_BIND=0.0.0.0:5555 smsq flower",
    "smsq flower --url_prefix=flower",
    "smsq flower --read_only=false      with buttons that act on workers",
    cls=CeleryCommand,
)
def flower(options: tuple[str, ...]) -> None:
    """Start Flower with smsq's settings; takes Flower's own options, listed below.

    It only shows: whoever knows its password cannot run tasks nor control workers, unless
    FLOWER_READ_ONLY is false. Exits with 2 where a setting is wrong; otherwise with Flower's exit
    code.
    """
    from smsq.errors import SettingsError
    from smsq_worker.config.parsers import is_loopback
    from smsq_worker.config.settings import Settings
    from smsq_worker.infra.ports import require_free

    settings = Settings.load(os.environ)
    host, port = settings.flower_bind
    refused = [f"{one}: {INSTEAD[_name(one)]}" for one in options if _name(one) in INSTEAD]
    if problems := [*refused, *_bad_credentials(os.environ, options)]:
        raise SettingsError(problems)
    if not is_loopback(host) and not os.environ.get("FLOWER_BASIC_AUTH"):
        problem = f"must be user:password, because SMSQ_FLOWER_BIND, {host}, is not loopback"
        raise SettingsError([f"FLOWER_BASIC_AUTH: {problem}"])
    require_free(settings.flower_bind, "SMSQ_FLOWER_BIND")
    exec_celery(
        "flower",
        f"--conf={files('smsq_worker.celery_worker').joinpath('flower_config.py')}",
        f"--address={host}",
        f"--port={port}",
        f"--read_only={_is_read_only(os.environ)}",
        *options,
    )


def _bad_credentials(environ: Mapping[str, str], options: Sequence[str]) -> Iterator[str]:
    """Yield a line for each place that names a user without a name or without a password.

    Flower lets in whoever sends the same. The values are not shown.
    """
    given = [("--basic_auth", o.partition("=")[2]) for o in options if _name(o) == "basic_auth"]
    if told := environ.get("FLOWER_BASIC_AUTH"):
        given.append(("FLOWER_BASIC_AUTH", told))
    for where, text in given:
        pairs = [one.partition(":") for one in text.split(",")]
        if not all(user.strip() and password.strip() for user, _, password in pairs):
            yield f"{where}: must be user:password, neither of them empty"


def _is_read_only(environ: Mapping[str, str]) -> str:
    """Return how the option is given: false only where that is said, in Flower's words for it."""
    told = environ.get("FLOWER_READ_ONLY", "").strip().lower()
    return "false" if told in {"n", "no", "f", "false", "off", "0"} else "true"


def _name(option: str) -> str:
    return option.lstrip("-").partition("=")[0].replace("-", "_")
