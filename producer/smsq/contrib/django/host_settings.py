"""`SMSQ = {...}` of Django's settings: read, and checked for `manage.py check`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any, Final

from django.conf import settings
from django.core.checks import WARNING, CheckMessage, Error

from smsq import checks
from smsq.configuring import Configuration, configuration
from smsq.errors import SettingsError
from smsq.settings import ProducerSettings
from smsq.suggestions import did_you_mean

PREFIX: Final = "SMSQ_"
KEYS: Final = {
    str(spec.metadata["env"]).removeprefix(PREFIX): spec.name for spec in fields(ProducerSettings)
}
"""The environment's names without their prefix, and the fields that they set."""

NOT_A_DICT: Final = "smsq.E001"
UNKNOWN_KEY: Final = "smsq.E002"
BAD_VALUE: Final = "smsq.E003"
BAD_VARIABLE: Final = "smsq.E004"
READ_BY_NOBODY: Final = "smsq.W001"


def read(value: object) -> tuple[Configuration, dict[str, str]]:
    """Return what `SMSQ` configures, and the id of the check for each problem but bad values.

    None, as where there is no `SMSQ`, names nothing.
    """
    given: dict[str, object] = {}
    problems: dict[str, str] = {}
    if isinstance(value, Mapping):
        for key, one in value.items():
            if key in KEYS:
                given[KEYS[key]] = one
            else:
                problems[f"{_shown(key)}: no such key; {_hint(key)}"] = UNKNOWN_KEY
    elif value is not None:
        got = checks.kind_of(value)
        problems[f"SMSQ: must be a dict of {', '.join(KEYS)}; got {got}"] = NOT_A_DICT
    made = configuration(
        given,
        how="configured by SMSQ of Django's settings",
        label=lambda _, env: _shown(env.removeprefix(PREFIX)),
        problems=tuple(problems),
    )
    return made, problems


def check(**_: Any) -> list[CheckMessage]:
    """Return what is wrong with `SMSQ` and the environment, and what stands beside `SMSQ`."""
    found: list[CheckMessage] = [*_read_by_nobody()]
    configured, ids = read(getattr(settings, "SMSQ", None))
    try:
        configured.load(os.environ)
    except SettingsError as error:
        found += [Error(line, id=ids.get(line) or _id(line)) for line in error.problems]
    return found


def _read_by_nobody() -> Iterator[CheckMessage]:
    """Yield a warning for each setting that is named as Celery's are, with a prefix."""
    given = getattr(settings, "SMSQ", None)
    for key in KEYS:
        name = f"{PREFIX}{key}"
        value = getattr(settings, name, None)
        is_used = isinstance(given, Mapping) and key in given
        if value is not None and not is_used and str(value) != os.environ.get(name):
            yield CheckMessage(
                WARNING,
                f'{name} of Django\'s settings is read by nobody; write SMSQ = {{"{key}": ...}}',
                id=READ_BY_NOBODY,
            )


def _id(line: str) -> str:
    return BAD_VALUE if line.startswith("SMSQ[") else BAD_VARIABLE


def _shown(key: object) -> str:
    if isinstance(key, str):
        return f'SMSQ["{checks.masked(key)}"]'
    return f"SMSQ[{checks.kind_of(key)}]"


def _hint(key: object) -> str:
    """Return which key is meant: written otherwise, named as `configure` does, or misspelt."""
    name = str(key).upper().removeprefix(PREFIX)
    by_field = {field.upper(): known for known, field in KEYS.items()}
    if meant := by_field.get(name) or (name if name in KEYS else ""):
        return f'write "{meant}"'
    # APP_SECRET, a worker's, is not near enough to VERIFY_SECRET.
    return did_you_mean(name, KEYS, cutoff=0.65) or (
        f"there are {', '.join(KEYS)}; all other settings are of workers, from their environment"
    )
