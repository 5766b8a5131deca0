"""`smsq campaign`: what many messages have in common, stopped or slowed as one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from smsq_worker.cli.helpers.asking import yes_option
from smsq_worker.cli.helpers.options import (
    command,
    encoding_option,
    json_option,
    listing,
    watch_option,
)
from smsq_worker.i18n import _

MIN_RATE, MAX_RATE = 0.001, 10_000


@listing(
    "smsq campaign",
    "smsq campaign show spring --watch",
    "smsq campaign pause spring",
    "smsq campaign rate spring 20",
    "smsq campaign cancel spring",
)
def campaign(*, as_json: bool) -> None:
    """List the campaigns, the newest first; the commands below show, stop and slow one.

    A message belongs to one where it was sent with campaign=, with send-file, or by the relay with
    the parameter campaign. A campaign is forgotten SMSQ_RETENTION_S after its last message's end.
    """
    from smsq_worker.cli.views import campaign as view

    view.show_all(as_json=as_json)


@command(
    "smsq campaign show spring",
    "smsq campaign show spring --watch",
    "smsq campaign show spring --failed failed.csv --file numbers.csv",
    of=campaign,
)
@click.argument("name")
@json_option
@watch_option
@click.option(
    "--failed",
    "failed_path",
    metavar="OUT",
    type=click.Path(path_type=Path),
    help="Put what failed there, with line, state and reason.",
)
@click.option(
    "--file",
    metavar="FILE",
    type=click.Path(),
    help="With --failed: the file that was sent, for its own columns and whole numbers.",
)
@encoding_option
def show(**given: Any) -> None:
    """Show a campaign: what became of its messages, its rate, and the time that is left.

    --failed writes what failed, expired, was cancelled, is unreported or held by now. With the FILE
    that send-file sent, these are its rows as they are there; without it, numbers are masked, as
    the ledger does not keep them.

    Exits with 1 where nothing is known of it.
    """
    from smsq_worker.cli.views import campaign as view

    view.show(**given)


@command("smsq campaign pause spring", of=campaign)
@click.argument("name")
@yes_option
def pause(name: str, *, yes: bool) -> None:
    """Stop a campaign until `smsq campaign resume`; other messages go on.

    Requests under way are finished. Its messages wait; only their ttl elapses. Exits with 1 where
    it was paused or cancelled before, or is unknown.
    """
    from smsq_worker.cli.views import campaign as view

    view.do("pause", name, yes=yes)


@command("smsq campaign resume spring", of=campaign)
@click.argument("name")
@yes_option
def resume(name: str, *, yes: bool) -> None:
    """Resume a paused campaign: it goes on in the order in which it came.

    Exits with 1 where it was not paused.
    """
    from smsq_worker.cli.views import campaign as view

    view.do("resume", name, yes=yes)


@command("smsq campaign cancel spring", "smsq campaign cancel spring --yes", of=campaign)
@click.argument("name")
@yes_option
def cancel(name: str, *, yes: bool) -> None:
    """Cancel a campaign: of its messages none is begun from the answer on, for good.

    Those under way are decided by their attempt, and not tried again. All others are cancelled at
    once; the scheduler ends them one by one, and frees their memory. Whoever sends into the
    campaign from now on gets CampaignCancelled. Exits with 1 where it was cancelled before, or is
    unknown.
    """
    from smsq_worker.cli.views import campaign as view

    view.do("cancel", name, yes=yes)


@command("smsq campaign rate spring 20", "smsq campaign rate spring --reset", of=campaign)
@click.argument("name")
@click.argument(
    "per_s", metavar="[RATE]", type=click.FloatRange(MIN_RATE, MAX_RATE), required=False
)
@click.option("--reset", is_flag=True, help="Go back to the rate of all.")
def rate(name: str, per_s: float | None, *, reset: bool) -> None:
    """Show a campaign's rate, or let it be at most RATE a second, a share of the one rate.

    It applies at once, also to those that wait. Exits with 1 where it was cancelled, or is unknown.
    """
    from smsq_worker.cli.views import campaign as view

    if reset and per_s is not None:
        raise click.UsageError(_("pass either a rate or --reset"))
    if not reset and per_s is None:
        view.show_rate(name)
        return
    view.do("rate", name, rate=per_s)
