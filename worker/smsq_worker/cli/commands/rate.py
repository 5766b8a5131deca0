"""`smsq rate`: how many requests the gateway gets a second, from all workers together."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import click

from smsq_worker.cli.helpers.options import examples, json_option
from smsq_worker.cli.helpers.output import echo, echo_json
from smsq_worker.i18n import _


class _SettingType(click.ParamType[float]):
    """The values that a setting takes, with its bounds and messages."""

    def __init__(self, name: str) -> None:
        self.name = name

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        from smsq_worker.cli.helpers.told import told
        from smsq_worker.config.settings import Settings

        (parse,) = (
            one.metadata["parse"] for one in fields(Settings) if one.metadata["env"] == self.name
        )
        try:
            found: float = parse(value)
        except ValueError as error:
            self.fail(told(f"{value!r} is not allowed; it takes {error}"), param, ctx)
        return found


@click.command(
    epilog=examples("smsq rate", "smsq rate 50", "smsq rate 50 --burst 5", "smsq rate --reset")
)
@click.argument("per_s", metavar="[RATE]", type=_SettingType("SMSQ_RATE_PER_S"), required=False)
@click.option(
    "--burst", type=_SettingType("SMSQ_RATE_BURST"), metavar="N", help="Requests at once."
)
@click.option("--reset", is_flag=True, help="Go back to what the settings say.")
@json_option
def rate(per_s: float | None, burst: int | None, *, reset: bool, as_json: bool) -> None:
    """Show how many requests a second all workers make together, or set that to RATE.

    A rate set here applies at once, for all workers, until it is set again or --reset; without
    --burst the burst stays as it is. While the gateway asks for fewer requests, the rate is
    temporarily lower; setting it ends that.
    """
    from smsq import audit
    from smsq_worker.cli.helpers.layout import padded
    from smsq_worker.cli.helpers.ledger_client import open_control
    from smsq_worker.cli.views import rate as view

    if reset and (per_s is not None or burst is not None):
        raise click.UsageError(
            _("--reset goes back to the settings, so it takes no rate and burst")
        )
    if burst is not None and per_s is None:
        raise click.UsageError(_("pass the rate too: smsq rate RATE --burst {burst}", burst=burst))
    control = open_control()
    if reset:
        control.reset_rate(audit.act("rate --reset"))
    elif per_s is not None:
        burst = control.rate().burst if burst is None else burst
        control.set_rate(per_s, burst, audit.act("rate", per_s=f"{per_s:g}", burst=burst))
    now = control.rate()
    if as_json:
        echo_json(view.as_dict(now))
        return
    limit = _("{name}: {meaning}", name=view.limit(now), meaning=view.source(now))
    for name, words in ((_("limit"), limit), (_("now"), view.current(now))):
        echo(f"{padded(name, 6)} {words}")
