"""`smsq rate`: how many requests the gateway gets a second, from all workers together."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import click

from smsq_worker.cli.helpers.accounts import account_option
from smsq_worker.cli.helpers.options import command, json_option
from smsq_worker.cli.helpers.output import echo_json, echo_lines
from smsq_worker.i18n import _


class _SettingType(click.ParamType[float]):
    """The values that a setting takes, with its bounds and messages."""

    def __init__(self, name: str) -> None:
        self.name = name

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        from smsq_worker.config.settings import Settings
        from smsq_worker.i18n.told import told

        (parse,) = (
            one.metadata["parse"] for one in fields(Settings) if one.metadata["env"] == self.name
        )
        try:
            found: float = parse(value)
        except ValueError as error:
            self.fail(told(f"{value!r} is not allowed; it takes {error}"), param, ctx)
        return found


@command(
    "smsq rate",
    "smsq rate 50",
    "smsq rate 50 --burst 5",
    "smsq rate --account backup 20",
    "smsq rate --reset",
)
@click.argument("per_s", metavar="[RATE]", type=_SettingType("SMSQ_RATE_PER_S"), required=False)
@account_option
@click.option(
    "--burst", type=_SettingType("SMSQ_RATE_BURST"), metavar="N", help="Requests at once."
)
@click.option("--reset", is_flag=True, help="Go back to what the settings say.")
@json_option
def rate(
    per_s: float | None, burst: int | None, *, account: str | None, reset: bool, as_json: bool
) -> None:
    """Show how many requests a second all workers make together, or set that to RATE.

    A rate set here applies at once, for all workers, until it is set again or --reset; without
    --burst the burst stays as it is. While the gateway asks for fewer requests, the rate is
    temporarily lower; setting it ends that. Of several accounts each has its rate: all are shown,
    and one is set.
    """
    import os

    from smsq import audit
    from smsq_worker.cli.helpers.accounts import accounts_of, choose, open_known
    from smsq_worker.cli.views import rate as view
    from smsq_worker.config.settings import Settings

    if reset and (per_s is not None or burst is not None):
        words = _("--reset goes back to the settings, so it takes no rate and burst")
        raise click.UsageError(words)
    if burst is not None and per_s is None:
        raise click.UsageError(_("pass the rate too: smsq rate RATE --burst {burst}", burst=burst))
    settings = Settings.load(os.environ)
    accounts = accounts_of(settings)
    changes = reset or per_s is not None
    chosen = [choose(account, accounts)] if changes or account else [*accounts]
    control, key = open_known(settings), chosen[0].key
    noted: dict[str, Any] = {"account": chosen[0].name} if settings.rules.accounts else {}
    if reset:
        control.reset_rate(audit.act("rate --reset", **noted), account=key)
    elif per_s is not None:
        burst = control.rate(key).burst if burst is None else burst
        act = audit.act("rate", per_s=f"{per_s:g}", burst=burst, **noted)
        control.set_rate(per_s, burst, act, account=key)
    rates = {one.name: control.rate(one.key) for one in chosen}
    if as_json:
        all_of_them = {name: view.as_dict(now) for name, now in rates.items()}
        is_one = not settings.rules.accounts or account is not None or changes
        echo_json(all_of_them[chosen[0].name] if is_one else {"accounts": all_of_them})
    elif settings.rules.accounts:
        echo_lines(view.by_account(rates))
    else:
        echo_lines(view.lines(rates[chosen[0].name]))
