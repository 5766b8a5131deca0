"""`smsq redo`: what it shows before and after, and whether it goes on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

import click

from smsq import audit
from smsq.connection import Client
from smsq.contract import parse_campaign
from smsq.ledgers import do
from smsq.redis_ledger import RedisLedger
from smsq.times import parse_ttl
from smsq_worker.cli.helpers import selecting
from smsq_worker.cli.helpers.asking import ask
from smsq_worker.cli.helpers.ledger_client import open_ledger
from smsq_worker.cli.helpers.meter import meter
from smsq_worker.cli.helpers.output import echo, echo_json, echo_lines
from smsq_worker.config.settings import Settings
from smsq_worker.domain.codes import Catalogues
from smsq_worker.i18n import N_, _, ngettext
from smsq_worker.inspection.accounts import rate_now
from smsq_worker.inspection.formatting import clean, span, state_name
from smsq_worker.ledger.admin import Control
from smsq_worker.ledger.campaigns import Campaign, Campaigns
from smsq_worker.ledger.redo import Redo
from smsq_worker.ledger.redoable import REDOABLE, Left, Tally, Wish
from smsq_worker.ledger.selecting import Selection
from smsq_worker.vendors.of_accounts import catalogues_of

_LEFT: Final = {
    Left.REDONE: N_("sent again before"),
    Left.OF_REDO: N_("of a redo before, whose campaign is to be named: --campaign NAME"),
    Left.SENT_AGAIN: N_("sent again by their backend, with the same key"),
    Left.OTP: N_("of lane otp, which is never sent again"),
    Left.ERASED: N_("no longer have their number: SMSQ_REDO_S is over, or was 0 at their end"),
    Left.STATE: N_("did not fail, or have moved on meanwhile"),
}


def redo(
    *,
    dry_run: bool,
    also_doubtful: bool,
    name: str | None,
    ttl_s: float | None,
    scan: bool,
    yes: bool,
    as_json: bool,
    **asked: Any,
) -> None:
    """Show what would be sent again of what is asked for; send it, unless this is a dry run."""
    if not any(asked.values()):
        raise click.UsageError(_("say which messages, for example with --since 10:00"))
    name = name if name is None else parse_campaign(name)
    ttl_s = ttl_s if ttl_s is None else parse_ttl(ttl_s)
    wish = Wish(_failed(selecting.read(asked)), also_doubtful, scan)
    settings, client = open_ledger(to_write=not dry_run)
    act = _act(settings, client)
    found, rate = act.survey(wish), rate_now(Control(client, settings.rules), settings.rules)
    total = found.taken.total()
    looked_at = total + found.may_have_arrived.total() + found.left.total()
    notes = selecting.missing(client, settings, wish.selection, looked_at)
    answer = _as_dict(found) | {"rate_per_s": rate, "seconds": round(total / rate, 1)}
    if name and (there := Campaigns(client, settings.rules).read(name)):
        notes = [*notes, _there_already(there)]
    if not as_json:
        echo_lines([*_lines(found, total / rate, rate), *notes])
    if dry_run or not total:
        _print_end(answer | {"campaign": None, "sent_again": 0}, total, as_json=as_json)
        return
    what = ngettext("this sends {n} message again", "this sends {n} messages again", total)
    ask(what, yes=yes)
    name = name or f"redo-{datetime.now().astimezone():%Y%m%dT%H%M%S}"
    noted = audit.act("redo", **_conditions(asked), also_doubtful=also_doubtful or "")
    with meter(N_("sent again"), total, quiet=as_json) as step:
        done = act.run(wish, name, act=noted, ttl_s=ttl_s, told=lambda n: step(n, ""))
    answer |= _as_dict(done) | {"campaign": name, "sent_again": done.taken.total()}
    _print_end(answer, total, as_json=as_json)


def _there_already(campaign: Campaign) -> str:
    return ngettext(
        "campaign {name} has {n} message already: smsq campaign show counts them together",
        "campaign {name} has {n} messages already: smsq campaign show counts them together",
        campaign.total,
        name=clean(campaign.name),
    )


def _act(settings: Settings, client: Client) -> Redo:
    return Redo(
        client,
        settings,
        catalogues=Catalogues(catalogues_of(settings)),
        selector=selecting.selector(client, settings),
        enter=lambda entries: do(RedisLedger().entering_entries(entries)),
    )


def _print_end(answer: dict[str, Any], total: int, *, as_json: bool) -> None:
    name, sent = answer["campaign"], answer["sent_again"]
    if as_json:
        echo_json(answer)
    elif name is None:
        echo(_("nothing was sent"))
    else:
        words = ngettext(
            "{n} message is sent again, as campaign {name}; smsq campaign show {name}",
            "{n} messages are sent again, as campaign {name}; smsq campaign show {name}",
            sent,
            name=clean(name),
        )
        echo(words)
        if sent < total:
            echo(_("{n} were not: they have moved on meanwhile", n=total - sent))


def _failed(selection: Selection) -> Selection:
    """Return the same of what can be sent again at all, where no state was asked for."""
    patterns = {"state": list(map(str, REDOABLE))} | dict(selection.patterns)
    return replace(selection, patterns=patterns)


def _conditions(asked: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was asked for as the audit stream shows it; a key may be anybody's secret."""
    shown = {
        name: ",".join(value) if isinstance(value, tuple) else value
        for name, value in asked.items()
        if value and name != "key"
    }
    return shown | ({"key": "***"} if asked.get("key") else {})


def _as_dict(tally: Tally) -> dict[str, Any]:
    return {
        "did_not_arrive": dict(tally.taken.most_common()),
        "may_have_arrived": dict(tally.may_have_arrived.most_common()),
        "left_out": {str(why): n for why, n in tally.left.most_common()},
    }


def _lines(found: Tally, seconds: float, rate: float) -> Iterator[str]:
    total = found.taken.total()
    yield ngettext(
        "{n} message to be sent again, in {time} at {rate:g}/s",
        "{n} messages to be sent again, in {time} at {rate:g}/s",
        total,
        time=span(seconds),
        rate=rate,
    )
    yield from _reasons(found.taken)
    if doubtful := found.may_have_arrived.total():
        yield ngettext(
            "{n} may have arrived, and is sent again only with --also-doubtful",
            "{n} may have arrived, and are sent again only with --also-doubtful",
            doubtful,
        )
        yield from _reasons(found.may_have_arrived)
    if left := found.left.total():
        yield ngettext("{n} is left out", "{n} are left out", left)
        for why, n in found.left.most_common():
            yield f"  {n} x {_(_LEFT[why])}"


def _reasons(counts: Counter[str]) -> Iterator[str]:
    for reason, n in counts.most_common():
        yield f"  {n} x {clean(state_name(reason) if reason in set(REDOABLE) else reason)}"
