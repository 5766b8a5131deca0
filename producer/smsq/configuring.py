"""A process' configuration: what its code names, and the environment for the rest.

There is one for the life of a process, as connections are made from it: it is fixed by the first
`configure`, or by the first use.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Final

from smsq.checks import kind_of
from smsq.errors import SettingsError
from smsq.settings import ProducerSettings

_SPECS: Final = {str(spec.metadata["env"]): spec for spec in fields(ProducerSettings)}
_BETWEEN: Final = frozenset({"smsq", "celery", "kombu", "functools", "contextlib"})
"""Packages whose frames say nothing of who called."""


@dataclass(frozen=True)
class Configuration:
    """What code names of the settings. Its repr shows no value."""

    how: str
    """Where it was made, in words that follow "smsq was"."""
    texts: Mapping[str, str] = field(default_factory=dict, repr=False)
    """By the name of the environment variable that would say the same."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """What errors call them."""
    problems: tuple[str, ...] = ()
    """What is wrong besides the values of `texts`."""
    used: ProducerSettings | None = None
    """Where nothing was named before the first use: the environment's settings of then."""

    def load(self, environ: Mapping[str, str]) -> ProducerSettings:
        """Return the settings, with the environment for what is not named. Raises SettingsError."""
        problems = list(self.problems)
        try:
            settings = ProducerSettings.load({**environ, **self.texts})
        except SettingsError as error:
            raise SettingsError([*problems, *map(self._labelled, error.problems)]) from None
        if problems:
            raise SettingsError(problems)
        return settings

    def differing(self, other: Configuration) -> list[str]:
        """Name the settings in which another configuration differs. Raises SettingsError."""
        if self.used is not None:  # of which another may name a part
            theirs = other.load(os.environ)
            fields = {env: _SPECS[env].name for env in other.texts}
            return [
                _argument(env)
                for env, name in fields.items()
                if getattr(self.used, name) != getattr(theirs, name)
            ]
        named = {**self.texts, **other.texts}
        return [_argument(env) for env in named if self.value(env) != other.value(env)]

    def _labelled(self, problem: str) -> str:
        env, colon, rest = problem.partition(":")
        return f"{self.labels.get(env, env)}{colon}{rest}"

    def value(self, env: str) -> Any:
        """Return a value as it is compared: 3 and "3.0" are the same, and bad ones their text."""
        text = self.texts.get(env)
        if not text:
            return text if text is None else _SPECS[env].default
        try:
            return _SPECS[env].metadata["parse"](text)
        except ValueError:
            return text


def configuration(
    given: Mapping[str, object],
    *,
    how: str,
    label: Callable[[str, str], str],
    problems: Sequence[str] = (),
) -> Configuration:
    """Return a configuration from values by field; one that is None is not named.

    `label` makes of a field and its environment variable what errors call it.
    """
    found = list(problems)
    texts: dict[str, str] = {}
    labels: dict[str, str] = {}
    for env, spec in _SPECS.items():
        value = given.get(spec.name)
        if value is None:
            continue
        labels[env] = label(spec.name, env)
        text = _as_text(value, is_flag=isinstance(spec.default, bool))
        if text is None:
            allowed = "a str, a number, a list of str, or where it is 0 or 1 a bool"
            found.append(f"{labels[env]}: {kind_of(value)} is not allowed; it takes {allowed}")
        else:
            texts[env] = text.strip()
    return Configuration(how, texts, labels, tuple(found))


def _as_text(value: object, *, is_flag: bool) -> str | None:
    """Return a value as an environment variable would have it; None for what none can hold."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return f"{value:d}" if is_flag else None
    if isinstance(value, int | float):
        return f"{value}"
    if isinstance(value, list | tuple) and all(isinstance(part, str) for part in value):
        return ",".join(value)
    return None


_in_force: Final[dict[str, Configuration]] = {}
"""At most one. `setdefault` needs no lock, which a fork could find taken."""
_THE_ONE: Final = "the one"


def adopt(new: Configuration) -> None:
    """Make a configuration the process'. Raises SettingsError if there is one that differs."""
    first = _in_force.setdefault(_THE_ONE, new)
    if first is new:
        return
    problems = [*first.problems, *new.problems] if first.problems != new.problems else []
    if differing := first.differing(new):
        rule = "and cannot be configured otherwise in the same process"
        problems.append(f"smsq was {first.how}, {rule}; what differs: {', '.join(differing)}")
    if problems:
        raise SettingsError(problems)


def settle() -> ProducerSettings:
    """Return the process' settings, for good. Raises SettingsError; then nothing is fixed."""
    current = _in_force.get(_THE_ONE)
    if current is None:
        used = ProducerSettings.load(os.environ)
        how = f"first used at {caller()}, with its settings from the environment"
        current = _in_force.setdefault(_THE_ONE, Configuration(how, used=used))
    return current.load(os.environ)


def caller() -> str:
    """Return the place in the host's code that called smsq."""
    frame = sys._getframe(1)  # noqa: SLF001 - traceback would read source lines of every frame
    while frame.f_back and str(frame.f_globals.get("__name__")).partition(".")[0] in _BETWEEN:
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


def configure(
    *,
    redis_url: str | None = None,
    broker_url: str | None = None,
    redis_wait_replicas: int | str | None = None,
    retention_s: int | str | None = None,
    index: bool | str | None = None,
    redo_s: int | str | None = None,
    payload_keys: str | Sequence[str] | None = None,
    verify_secret: str | Sequence[str] | None = None,
    enqueue_timeout_s: float | str | None = None,
    idle_timeout_s: float | str | None = None,
    show_codes: bool | str | None = None,
) -> None:
    """Configure smsq in this process, once, before its first use.

    Each argument stands for a setting, redis_url for SMSQ_REDIS_URL, and goes by the same rules
    (docs/reference/settings.md); None leaves it to the environment, and "" means the default. The
    environment is read again when smsq is first used. The same call again is fine, and processes
    that are forked afterwards have the same configuration.

    Raises SettingsError with a line for every bad value, of the environment, too; and where smsq
    was configured otherwise, or used with other settings: the text says where.
    """
    named = dict(locals())
    how = f"configured at {caller()}"
    given = {spec.name: named[_argument(env)] for env, spec in _SPECS.items()}
    new = configuration(given, how=how, label=lambda _, env: f"{_argument(env)} ({env})")
    new.load(os.environ)
    adopt(new)


def _argument(env: str) -> str:
    """Return what `configure` calls a setting."""
    return env.removeprefix("SMSQ_").lower()
