"""`smsq doctor`: what is wrong, and what to change."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Iterable
from itertools import groupby
from typing import TYPE_CHECKING

from smsq_worker.cli.helpers.layout import padded
from smsq_worker.cli.helpers.options import command, json_option
from smsq_worker.cli.helpers.output import echo, echo_json
from smsq_worker.i18n import _, pgettext
from smsq_worker.i18n.told import told

if TYPE_CHECKING:
    from smsq_worker.doctor.finding import Finding


_COLOURS = {"ok": "green", "warning": "yellow", "error": "red"}
_LEVELS = 8
"""Columns."""


@command(
    "smsq doctor",
    "smsq doctor --json",
    "SMSQ_REDIS_URL=redis://10.0.0.7:6379/3 smsq doctor",
)
@json_option
def doctor(*, as_json: bool) -> None:
    """Check Redis, queues, workers, spool and gateway, and show what to change.

    It uses the settings of the environment, so run it where a worker runs, with the worker's
    environment. It changes nothing and sends no SMS; the gateway is only connected to. It takes
    about ten seconds at most, whatever hangs.

    Exits with 1 where anything is an error, with 2 where a setting is wrong.
    """
    from smsq_worker.config.settings import Settings
    from smsq_worker.doctor.installation import checks, run
    from smsq_worker.vendors.of_accounts import catalogues_of

    settings = Settings.load(os.environ)
    catalogues_of(settings)  # Raises SettingsError, as a worker's start would.
    found = run(checks(settings))
    if as_json:
        echo_json([{"part": part, **dataclasses.asdict(finding)} for part, finding in found])
    else:
        _show(found)
    raise SystemExit(1 if any(one.level == "error" for _of, one in found) else 0)


def _show(found: Iterable[tuple[str, Finding]]) -> None:
    counts: Counter[str] = Counter()
    for part, findings in groupby(found, key=lambda one: one[0]):
        name = _part(part)
        echo(name, mark=name, bold=True)
        for _part_of, finding in findings:
            counts[finding.level] += 1
            level = pgettext("level", finding.level)
            line = f"  {padded(level, _LEVELS)} {told(finding.what)}"
            echo(line, mark=level, fg=_COLOURS[finding.level])
            if finding.advice:
                echo(f"{'':11}-> {told(finding.advice)}")
    named = [(pgettext("level", level), counts[level]) for level in ("error", "warning", "ok")]
    echo(_(", ").join(_("{name}: {meaning}", name=name, meaning=n) for name, n in named))


def _part(part: str) -> str:
    kind, _blank, account = part.partition(" ")
    name = pgettext("part", part)
    return name if name != part else f"{pgettext('part', kind)} {account}".rstrip()
