"""Campaigns, as `smsq campaign` prints them, and what an operator does with one."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import click

from smsq import audit
from smsq_worker.bulk_import.bulk_file import BulkFile
from smsq_worker.bulk_import.failed_rows import write_masked, write_rows
from smsq_worker.bulk_import.source import opened
from smsq_worker.cli.helpers import selecting
from smsq_worker.cli.helpers.asking import ask
from smsq_worker.cli.helpers.layout import padded, width
from smsq_worker.cli.helpers.ledger_client import open_ledger
from smsq_worker.cli.helpers.meter import meter
from smsq_worker.cli.helpers.output import echo, echo_json, echo_lines, fail
from smsq_worker.cli.views.send_file import failed_file_lines, how_to_go_on
from smsq_worker.config.rules import Rules
from smsq_worker.domain.scopes import read_scope
from smsq_worker.i18n import N_, _, ngettext, pgettext
from smsq_worker.inspection.accounts import look_at_accounts, rate_now, rates_on_routes
from smsq_worker.inspection.formatting import clean, local, pause_line, span, state_name
from smsq_worker.inspection.snapshot import is_stopped
from smsq_worker.ledger.admin import Control
from smsq_worker.ledger.campaigns import SEVERAL, Campaign, Campaigns, Deed, as_dict
from smsq_worker.ledger.failures import Failure, failures_of


def show_all(*, as_json: bool) -> None:
    """Print the campaigns, the newest first."""
    settings, client = open_ledger()
    found = Campaigns(client, settings.rules).all()
    if as_json:
        echo_json([{"name": one.name, **as_dict(one)} for one in found])
        return
    columns = max((width(clean(one.name)) for one in found), default=0)
    for one in found:
        counts = _("{ended} of {total} ended", ended=one.ended, total=one.total)
        began = _("began {time}", time=local(one.since))
        words = _(", ").join([counts, *_standing(one), began])
        echo(f"{padded(clean(one.name), columns)}  {words}")
    echo(ngettext("{n} campaign", "{n} campaigns", len(found)))


def show(
    name: str,
    *,
    as_json: bool,
    every_s: int | None,
    failed_path: Path | None,
    file: str | None,
    encoding: str | None,
) -> None:
    """Print a campaign, or write what failed of it; exits with 1 for an unknown one."""
    if every_s is not None and as_json:
        raise click.UsageError(_("--watch draws a bar, so it takes no --json"))
    if file and not failed_path:
        raise click.UsageError(_("--file goes with --failed"))
    if failed_path and (as_json or every_s is not None):
        raise click.UsageError(_("--failed takes neither --json nor --watch"))
    settings, client = open_ledger()
    campaigns = Campaigns(client, settings.rules)
    found = _known(campaigns, name)
    if failed_path:
        selector = selecting.selector(client, settings)
        failures = failures_of(client, settings.redis_url, selector, found)
        _write_failed(failures, name, failed_path, file, encoding)
        return
    if every_s is not None:
        found = _follow(campaigns, found, every_s)
    if as_json:
        echo_json({"name": name, **as_dict(found)})
    else:
        echo_lines(_lines(found, settings.rules, Control(client, settings.rules)))


def _write_failed(
    failures: list[Failure], name: str, path: Path, file: str | None, encoding: str | None
) -> None:
    """Write what failed of a campaign, with the rows of the file that was sent if it is at hand."""
    if file is None:
        written, others = write_masked(path, failures), 0
    else:
        with opened(file) as source:
            written, others = write_rows(path, failures, BulkFile(source, {}, encoding, ""))
    echo_lines(failed_file_lines(str(path), written, others))
    if failures:
        echo_lines(how_to_go_on(name, is_written=True))


def show_rate(name: str) -> None:
    """Print the rate of a campaign; exits with 1 for an unknown one."""
    settings, client = open_ledger()
    found = _known(Campaigns(client, settings.rules), name)
    words = _standing(found) or [_("at the rate of all")]
    echo(_(", ").join([clean(name), *words]))


def do(deed: Deed, name: str, *, rate: float | None = None, yes: bool = False) -> None:
    """Apply what an operator says, and print what follows; exit with 1 where nothing changes."""
    settings, client = open_ledger(to_write=True)
    campaigns = Campaigns(client, settings.rules)
    found = _known(campaigns, name)
    if deed == "cancel" and found.stop != "cancelled":
        what = ngettext(
            "this cancels campaign {name}: {n} message that waits",
            "this cancels campaign {name}: {n} messages that wait",
            found.to_send,
            name=clean(name),
        )
        ask(what, yes=yes)
    elif deed in {"pause", "resume"} and found.to_send > 1:
        what = ngettext(
            "campaign {name} has {n} message that waits",
            "campaign {name} has {n} messages that wait",
            found.to_send,
            name=clean(name),
        )
        ask(what, yes=yes)
    act = audit.act(f"campaign {deed}", name=name, per_s=rate)
    before = campaigns.do(deed, name, rate=rate, act=act)
    if before == "unknown":  # It has been forgotten in between.
        fail(selecting.no_campaign(campaigns, name))
    if before == "cancelled":
        fail(_("campaign {name} was cancelled", name=clean(name)))
    if deed == "pause" and before == "paused":
        fail(_("campaign {name} was paused before", name=clean(name)))
    if deed == "resume" and not before:
        fail(_("campaign {name} was not paused", name=clean(name)))
    echo(_done(deed, name, rate, _known(campaigns, name)))
    echo_lines(_without_effect(rate, settings.rules, Control(client, settings.rules)))


def _without_effect(rate: float | None, rules: Rules, control: Control) -> Iterator[str]:
    """Yield that a campaign's rate slows nothing, where that of all is lower."""
    limit = sum(one.limit for one in rates_on_routes(control, rules)) if rate else 0
    if rate and rate > limit:
        yield _(
            "all messages together go at {limit:g} a second at most, so this slows nothing: see "
            "smsq rate",
            limit=limit,
        )


def _done(deed: Deed, name: str, rate: float | None, now: Campaign) -> str:
    name = clean(name)
    if deed == "pause":
        return _("paused campaign {name}; to go on: smsq campaign resume {name}", name=name)
    if deed == "resume":
        return _("resumed campaign {name}", name=name)
    if deed == "rate" and rate is not None:
        return _("campaign {name}: at most {rate:g} a second", name=name, rate=rate)
    if deed == "rate":
        return _("campaign {name}: at the rate of all", name=name)
    under_way = now.states.get("sending", 0)
    words = _(
        "cancelled campaign {name}: {count} cancelled, {n} under way",
        name=name,
        count=now.states.get("cancelled", 0),
        n=under_way,
    )
    doubtful = now.reasons.get("local:cancelled", 0)
    if not doubtful:
        return words
    more = ngettext(
        "{n} failed, as an earlier attempt may have been sent",
        "{n} failed, as an earlier attempt may have been sent",
        doubtful,
    )
    return _(", ").join((words, more))


def _known(campaigns: Campaigns, name: str) -> Campaign:
    found = campaigns.read(name)
    if found is None:
        fail(selecting.no_campaign(campaigns, name))
    return found


def _follow(campaigns: Campaigns, found: Campaign, every_s: int) -> Campaign:
    """Draw a bar until none of its messages is live, or Ctrl-C."""
    with suppress(KeyboardInterrupt), meter(N_("ended"), found.total, found.ended) as step:
        while found.ended < found.total:
            step(found.ended, _(", ").join([*_counts(found), *_standing(found)]))
            time.sleep(every_s)
            found = campaigns.read(found.name) or found
    return found


def _lines(one: Campaign, rules: Rules, control: Control) -> Iterator[str]:
    ended = [_("ended {time}", time=local(one.ended_at))] if one.ended_at else []
    rows = {
        _("campaign"): _(", ").join([clean(one.name), *_standing(one), *ended]),
        _("began"): _(
            "{time}, by {who}", time=local(one.since), who=clean(one.by.removesuffix(":"))
        ),
        _("lane"): _several(one.lane),
        _("template"): _several(one.template),
        _("messages"): _("{n}: {counts}", n=one.total, counts=_(", ").join(_counts(one))),
    }
    if one.delivery_rate is not None:
        rows[_("delivered")] = f"{one.delivery_rate:.1%}"
    if one.reasons:
        rows[_("failed")] = _(", ").join(f"{clean(why)} {n}" for why, n in one.reasons.items())
    pauses = control.pauses()
    accounts = look_at_accounts(control, rules.accounts)
    if one.to_send and not one.stop and is_stopped(pauses, accounts, rules.routes):
        rows[_("left")] = _("stopped")
        stops = [one for one in pauses if read_scope(one.scope).stops_all]
        rows[""] = _("; ").join(map(pause_line, stops))
    elif one.to_send and not one.stop:
        least = min(rate_now(control, rules), one.rate or float("inf"))
        rows[_("left")] = _("at least {time}", time=span(one.to_send / least))
    for name, words in rows.items():
        yield f"{padded(name, 10)} {words}"


def _several(value: str) -> str:
    return pgettext("lanes or templates", "several") if value == SEVERAL else clean(value)


def _counts(one: Campaign) -> list[str]:
    return [f"{state_name(state)} {n}" for state, n in one.states.items()]


def _standing(one: Campaign) -> list[str]:
    """Return what keeps a campaign from going on as others do."""
    words = []
    if one.stop and one.stopped_at:
        word = _("paused") if one.stop == "paused" else state_name("cancelled")
        words.append(_("{word} since {time}", word=word, time=local(one.stopped_at)))
    if one.rate is not None:
        words.append(_("at most {rate:g} a second", rate=one.rate))
    return words
