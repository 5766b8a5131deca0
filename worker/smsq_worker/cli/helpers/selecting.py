"""The one small language that names the messages a command is about."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import click

from smsq_worker.cli.helpers.options import declare, suggest, with_hint
from smsq_worker.i18n import _, ngettext

if TYPE_CHECKING:
    from smsq.connection import Client
    from smsq_worker.config.settings import Settings
    from smsq_worker.ledger.campaigns import Campaigns
    from smsq_worker.ledger.selecting import Selection, Selector

_STATES: Final = (
    *("queued", "sending", "deferred", "accepted", "held", "delivered", "failed", "expired"),
    *("unreported", "duplicate", "cancelled"),
)
_LANES: Final = ("otp", "notice", "bulk")
_SOURCES: Final = ("report:", "gateway:", "local:", "duplicate:")
"""What a reason begins with: who said so."""

_TEXT: Final[dict[str, Any]] = {"metavar": "TEXT"}
_SEVERAL: Final[dict[str, Any]] = {"multiple": True, **_TEXT}
selection_options: Final = declare(
    click.option(
        "--state",
        **_SEVERAL,
        shell_complete=suggest(*_STATES),
        help="Several with commas, here and below; * stands for any characters.",
    ),
    click.option("--reason", **_SEVERAL, help="Like local:suppressed, 'report:MO:*' or MA:0001."),
    click.option("--template", **_SEVERAL),
    click.option("--lane", **_SEVERAL, shell_complete=suggest(*_LANES)),
    click.option("--campaign", **_SEVERAL),
    click.option("--caller", **_SEVERAL, help="The relay's caller that sent it."),
    click.option("--reference", **_SEVERAL, help="Your own text, given with it."),
    click.option("--phone", **_TEXT, help="The number, in full."),
    click.option(
        "--key",
        **_TEXT,
        help="Its idempotency key, which it has no longer once it certainly was not sent.",
    ),
    click.option("--since", metavar="TIME", help="Enqueued not before, like 10:00 or 2h ago."),
    click.option("--until", metavar="TIME", help="Enqueued before."),
)
"""The options that choose messages, for a command that takes them as `**asked`."""
_MULTIPLE: Final = ("state", "reason", "template", "lane", "campaign", "caller", "reference")


def read(asked: Mapping[str, Any]) -> Selection:
    """Return what was asked for. Raises click.UsageError and InvalidMessage."""
    from smsq.contract import parse_phone
    from smsq_worker.ledger.selecting import Selection

    patterns = {name: _words(asked[name]) for name in _MULTIPLE if asked[name]}
    if "reason" in patterns:
        patterns["reason"] = [one for word in patterns["reason"] for one in _reasons(word)]
    for name, known in (("state", _STATES), ("lane", _LANES)):
        for word in patterns.get(name, ()):
            _check(name, word, known)
    since, until = (read_time(name, asked[name]) for name in ("since", "until"))
    if since and until and since >= until:
        raise click.UsageError(_("--since must be before --until"))
    return Selection(
        patterns,
        since,
        until,
        parse_phone(asked["phone"]) if asked["phone"] else "",
        asked["key"] or "",
    )


def selector(client: Client, settings: Settings) -> Selector:
    """Return what looks messages up. Raises SettingsError and LedgerUnavailable."""
    from smsq.cipher import Opener, PlaintextCipher
    from smsq_worker.ledger.selecting import Selector

    ciphers = (Opener(client, settings, strict=True)(), PlaintextCipher())
    return Selector(client, settings.rules, ciphers, _callers(settings))


def zone() -> str:
    """Return the time zone in which times are read and shown."""
    name = os.environ.get("TZ", "").removeprefix(":") or time.tzname[0]
    return f"{name} ({datetime.now().astimezone():%z})"


def notes(selection: Selection, by_mask: int) -> list[str]:
    """Return what a reader must know of the answer."""
    from smsq.contract import mask_phone

    if not by_mask:
        return []
    return [
        ngettext(
            "{n} of them has ended, and is compared by the mask of its number, {phone}: it may be "
            "another number's",
            "{n} of them have ended, and are compared by the mask of their number, {phone}: they "
            "may be another number's",
            by_mask,
            phone=mask_phone(selection.phone),
        )
    ]


def missing(client: Client, settings: Settings, selection: Selection, found: int) -> list[str]:
    """Return what says of campaigns asked for by name that there are none.

    Exits with 1 where nothing was found: it is not that they have no such message.
    """
    from smsq_worker.cli.helpers.output import fail
    from smsq_worker.ledger.campaigns import Campaigns

    campaigns = Campaigns(client, settings.rules)
    names = [one for one in selection.patterns.get("campaign", ()) if "*" not in one]
    words = [no_campaign(campaigns, one) for one in names if campaigns.read(one) is None]
    if words and not found:
        fail("\n".join(words))
    return words


def no_campaign(campaigns: Campaigns, name: str) -> str:
    """Return what says that nothing is known of a campaign, and which may be meant."""
    from smsq.suggestions import nearest
    from smsq_worker.inspection.formatting import clean

    words = _("nothing is known of a campaign {name}; smsq campaign lists them", name=clean(name))
    known = [one.name for one in campaigns.all()]
    # A file's is named after it, with its digest behind.
    near = [one for one in known if one.startswith(name)] or nearest(name, known)
    return with_hint(words, [*map(clean, near)])


def _callers(settings: Settings) -> Sequence[str]:
    """Return the names of the relay's callers, as far as this machine knows them."""
    from smsq_worker.domain.toml_file import read_tables

    file = settings.relay_callers
    return list(read_tables(file, "callers", "")[0] or ()) if file else []


def _words(given: Sequence[str]) -> list[str]:
    return [word.strip() for one in given for word in one.split(",") if word.strip()]


def _reasons(word: str) -> list[str]:
    """Return what the ledger may have for a reason: people leave out who said MA:0001 or 400."""
    from smsq_worker.domain.code_spelling import normalise

    if word.startswith((*_SOURCES, "*")):
        return [word]
    code = word.upper() if "*" in word else normalise(word)
    return [f"report:{code}", *(f"{source}{word}" for source in _SOURCES)]


def _check(name: str, word: str, known: Sequence[str]) -> None:
    from fnmatch import fnmatchcase

    from smsq.suggestions import hint

    if not any(fnmatchcase(one, word) for one in known):
        allowed = _("it takes {names}, with * for any characters", names=", ".join(known))
        raise click.BadParameter(
            f"{word!r:.40}: {allowed}{hint(word, known)}", param_hint=f"--{name}"
        )


def read_time(name: str, text: str | None) -> datetime | None:
    """Return the moment that an option means, None where it was not given. Raises BadParameter."""
    from smsq_worker.domain import spoken_times

    if not text:
        return None
    now = datetime.now().astimezone()
    try:
        found = spoken_times.read_time(text, now)
    except ValueError:
        raise click.BadParameter(
            _(
                "{text}: it takes a time like 10:00, yesterday 10:00, 2025-07-06, "
                "2025-07-06 09:30, 2025-07-06T09:30+08:00, 2h ago or 90min ago",
                text=repr(text)[:40],
            ),
            param_hint=f"--{name}",
        ) from None
    if name == "since" and found > now:
        # At 1:00 somebody says 23:00, and would be told that there is nothing.
        words = _("{text} is still to come; write yesterday before it?", text=repr(text)[:40])
        raise click.BadParameter(words, param_hint=f"--{name}")
    return found
