"""How times, durations and pauses are written for people."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from smsq_worker.domain.printable import escaped
from smsq_worker.domain.scopes import read_scope
from smsq_worker.i18n import _, pgettext
from smsq_worker.ledger.admin import Pause

_UNITS: Final = ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s"))
_PHONE: Final = re.compile(r"(?<!\d)(1[3-9]\d)\d{4}(\d{4})(?!\d)")


def local(at: datetime) -> str:
    """Return a time for a person: this machine's, with its offset, to the second."""
    return _here(at).isoformat(sep=" ", timespec="seconds")


def local_instant(at: datetime) -> str:
    """Return a time for a person to the millisecond: the steps of a message are that close."""
    return _here(at).isoformat(sep=" ", timespec="milliseconds")


def moment(at: datetime) -> str:
    """Return a time for JSON: UTC, to the second."""
    return at.astimezone(UTC).isoformat(timespec="seconds")


def instant(at: datetime) -> str:
    """Return a time for JSON: UTC, to the millisecond."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds")


def _here(at: datetime) -> datetime:
    try:
        return at.astimezone()
    except OverflowError:  # "for ever" is the end of the year 9999, and here that is over
        return at


def span(seconds: float) -> str:
    """Return a duration in its two largest units."""
    names = {"d": _("{n} d"), "h": _("{n} h"), "min": _("{n} min"), "s": _("{n} s")}
    left, words = round(seconds), []
    for size, unit in _UNITS:
        if left >= size:
            words.append(names[unit].format(n=left // size))
            left %= size
    return " ".join(words[:2]) or _("{n} s", n=0)


def clean(text: str) -> str:
    """Return foreign text fit for a terminal, with what looks like a phone number masked."""
    return escaped(_PHONE.sub(r"\1****\2", text))


def state_name(state: str) -> str:
    """Return a state as people call it; in English it is the ledger's own word."""
    return pgettext("state", state)


def scope_words(scope: str) -> str:
    """Return a scope as one types it for `smsq resume`; its account is named, see `spoken`."""
    kind, account, name = read_scope(scope)
    if kind != "template":
        return escaped(" ".join(filter(None, (kind, account))))
    at = f" --account {escaped(account)}" if account else ""
    if name.startswith("-"):  # or it would be an option
        return shlex.quote(f"{kind}:{escaped(name)}") + at
    return f"{kind} {shlex.quote(escaped(name))}{at}"


def scope_name(scope: str) -> str:
    """Return a scope as people call it; its account is named, see `spoken`."""
    kind, account, name = read_scope(scope)
    words = f"{pgettext('scope', kind)} {clean(name or account)}".rstrip()
    if name and account:
        return _("{scope} at account {name}", scope=words, name=clean(account))
    return words


def pause_words(pause: Pause) -> str:
    """Return the cause of a pause, and since when it lasts."""
    cause = pgettext("cause", pause.cause)
    if pause.detail:
        cause = _("{cause}: {detail}", cause=cause, detail=clean(pause.detail))
    cause += in_lanes(pause.lanes)
    return _("{cause}, since {since}", cause=cause, since=local(pause.since))


def in_lanes(lanes: Sequence[str]) -> str:
    """Return in which lanes something holds, with a blank before; "" where it is in all."""
    return _(" in lane {lanes}", lanes=_(" and ").join(lanes)) if lanes else ""


def pause_line(pause: Pause) -> str:
    """Return what is paused, why and since when, and what ends it."""
    return _("paused: {words}", words=pause_whole(pause))


def pause_whole(pause: Pause) -> str:
    """Return what is paused, why and since when, and what ends it; without saying that it is."""
    scope = pause.spoken or pause.scope
    if pause.probe_at is None:
        end = _("until smsq resume {scope}", scope=scope_words(scope))
    else:
        end = _("next probe {time}", time=local(pause.probe_at))
    return _(
        "{scope} ({why}); {end}",
        scope=scope_name(scope),
        why=pause_words(pause),
        end=end,
    )
