"""`smsq rate`: how many calls of the gateway a second, all workers together."""

from __future__ import annotations

import json
import os
from dataclasses import fields
from typing import Any

import click

from smsq_worker.cli.helpers.words import rate_now
from smsq_worker.cli.helpers.writing import to_write
from smsq_worker.config.settings import Settings
from smsq_worker.inspection.formatting import moment
from smsq_worker.ledger.admin import Control, Rate

# What follows \b is printed as it stands.
_EXAMPLES = """\b
Examples:
  smsq rate
  smsq rate 50
  smsq rate 50 --burst 5
  smsq rate --reset
"""


class _Like(click.ParamType[float]):
    """What a setting takes, with the same bounds and words."""

    def __init__(self, name: str) -> None:
        self.name = name
        (self._parse,) = (
            one.metadata["parse"] for one in fields(Settings) if one.metadata["env"] == name
        )

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        try:
            found: float = self._parse(value)
        except ValueError as error:
            self.fail(f"{value!r} is not allowed; it takes {error}", param, ctx)
        return found


@click.command(epilog=_EXAMPLES)
@click.argument("per_s", metavar="[RATE]", type=_Like("SMSQ_RATE_PER_S"), required=False)
@click.option("--burst", type=_Like("SMSQ_RATE_BURST"), metavar="N", help="Calls at once.")
@click.option("--reset", is_flag=True, help="Go back to what the settings say.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def rate(per_s: float | None, burst: int | None, *, reset: bool, as_json: bool) -> None:
    """Show the calls a second of all workers together, or set them to RATE.

    What is set here counts at once, for all workers, until it is set again or --reset; without
    --burst the burst stays as it is. While the gateway wants fewer calls, the rate is lower for
    a while; to set it ends that.
    """
    if reset and (per_s is not None or burst is not None):
        raise click.UsageError("--reset goes back to the settings, so it takes no rate and burst")
    if burst is not None and per_s is None:
        raise click.UsageError(f"say the rate too: smsq rate RATE --burst {burst}")
    settings = Settings.load(os.environ)
    control = Control(to_write(settings), settings.rules)
    if reset:
        control.reset_rate()
    elif per_s is not None:
        control.set_rate(per_s, control.rate().burst if burst is None else burst)
    now = control.rate()
    if as_json:
        click.echo(json.dumps(as_dict(now), indent=2))
        return
    click.echo(f"limit  {now.limit:g}/s, burst {now.burst}: {_source(now)}")
    click.echo(f"now    {rate_now(now)}")


def as_dict(now: Rate) -> dict[str, Any]:
    """Give the rate as JSON shows it."""
    return {
        "limit": now.limit,
        "burst": now.burst,
        "set_by": "operator" if now.by_operator else "settings",
        "now": now.now,
        "back_at": None if now.back_at is None else moment(now.back_at),
    }


def _source(now: Rate) -> str:
    if now.by_operator:
        return "set by an operator; smsq rate --reset goes back to the settings"
    return "the workers' settings SMSQ_RATE_PER_S, SMSQ_RATE_BURST"
