"""Settings from the environment: frozen, checked once, every bad value reported at once.

A settings class is a frozen dataclass whose fields are made by `setting`. The producer's are
here; the worker's, in `smsq_worker.config.settings`, use the same machinery.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from typing import Any, Final, Self
from urllib.parse import urlsplit

from smsq import redis_urls
from smsq.contract import KEY_TTL_S
from smsq.errors import SettingsError
from smsq.parsers import (
    fernet_keys,
    flag,
    ledger_address,
    long_secrets,
    number,
    redis_address,
    whole,
)
from smsq.suggestions import did_you_mean

log = logging.getLogger(__name__)

IDLE_S: Final = 30.0
"""The default of SMSQ_IDLE_TIMEOUT_S."""


def setting(
    env: str,
    parse: Callable[[str], Any],
    default: Any = None,
    *,
    secret: bool = False,
    renamed_from: str = "",
    **empty: Any,
) -> Any:
    """Declare a setting: its environment variable, its parser, and its default.

    `parse` raises ValueError whose text says what is allowed. A secret's value is shown neither
    by the dataclass's repr nor by an error. `renamed_from` is an old name, accepted with a warning.
    `empty` is the value of an empty text, if that is not the default.
    """
    metadata = {"env": env, "parse": parse, "secret": secret, "renamed_from": renamed_from, **empty}
    return field(default=default, repr=not secret, metadata=metadata)


def shown_url(url: str) -> str:
    """Return a URL without its user, password and options."""
    if redis_urls.names_sentinels(url):  # urlsplit knows no list of hosts
        scheme, _, rest = url.partition("?")[0].partition("://")
        authority, slash, path = rest.partition("/")
        return f"{scheme}://{authority.rpartition('@')[2]}{slash}{path}"
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


@dataclass(frozen=True, kw_only=True)
class ProducerSettings:
    """What a backend may set."""

    redis_url: str = setting(
        "SMSQ_REDIS_URL", ledger_address, "redis://127.0.0.1:6379/0", secret=True
    )
    broker_url: str = setting("SMSQ_BROKER_URL", redis_address, "", secret=True)
    wait_replicas: int = setting("SMSQ_REDIS_WAIT_REPLICAS", whole(0, 9), -1)
    retention_s: int = setting("SMSQ_RETENTION_S", whole(60, 366 * 86_400), 604_800)
    index: bool = setting("SMSQ_INDEX", flag, default=True)
    redo_s: int = setting("SMSQ_REDO_S", whole(0, 30 * 86_400), -1)
    payload_keys: tuple[str, ...] = setting("SMSQ_PAYLOAD_KEYS", fernet_keys, (), secret=True)
    verify_secret: tuple[str, ...] = setting("SMSQ_VERIFY_SECRET", long_secrets, (), secret=True)
    enqueue_timeout_s: float = setting("SMSQ_ENQUEUE_TIMEOUT_S", number(0, 300, above=True), 3.0)
    idle_timeout_s: float = setting("SMSQ_IDLE_TIMEOUT_S", number(0, 3600), IDLE_S)
    show_codes: bool = setting("SMSQ_SHOW_CODES", flag, default=False)

    def __post_init__(self) -> None:
        if not self.broker_url:
            object.__setattr__(self, "broker_url", self.redis_url)
        if self.wait_replicas < 0:
            # Without it a failover could repeat attempts that the new primary does not know.
            replicas = 1 if redis_urls.names_sentinels(self.redis_url) else 0
            object.__setattr__(self, "wait_replicas", replicas)
        if self.redo_s < 0:
            # Nobody's numbers are to stay readable for longer unless that was asked for.
            object.__setattr__(self, "redo_s", 2 * 86_400 if self.payload_keys else 0)

    @property
    def key_ttl_s(self) -> int:
        """How long an idempotency key is kept: as long as what it was for may be sent again."""
        return max(KEY_TTL_S, self.redo_s)

    @property
    def is_one_redis(self) -> bool:
        """Whether broker and ledger are one database, so that one act can write to both."""
        return self.broker_url == self.redis_url

    @classmethod
    def load(cls, environ: Mapping[str, str], *, need: tuple[str, ...] = ()) -> Self:
        """Read the settings from an environment.

        `need` names fields that must not be empty. Raises SettingsError with a line for every
        bad value: the setting, the value unless it is secret, and what is allowed.
        """
        environ = with_current_names(cls, environ)
        values: dict[str, Any] = {}
        problems = [*misspelt(cls, environ), *_set_twice(cls, environ)]
        for spec in fields(cls):
            env, parse = spec.metadata["env"], spec.metadata["parse"]
            text = environ.get(env, "").strip()
            if not text:
                if "empty" in spec.metadata and env in environ:
                    values[spec.name] = spec.metadata["empty"]
                continue
            try:
                values[spec.name] = parse(text)
            except ValueError as error:
                shown = "its value" if spec.metadata["secret"] else repr(text)
                problems.append(f"{env}: {shown} is not allowed; it takes {error}")
        settings = cls(**values)
        bad = {line.partition(":")[0] for line in problems}
        problems += [line for line in settings.missing(need) if line.partition(":")[0] not in bad]
        # What contradicts a bad value's default may agree with what was meant.
        problems += [
            line for line in settings.contradictions() if not any(name in line for name in bad)
        ]
        if problems:
            raise SettingsError(problems)
        return settings

    def missing(self, need: tuple[str, ...]) -> Iterator[str]:
        """Yield a line for each needed setting that is not set."""
        by_name = {spec.name: spec for spec in fields(self)}
        for name in need:
            if not getattr(self, name):
                yield f"{by_name[name].metadata['env']}: must be set; it has no default"

    def contradictions(self) -> Iterator[str]:
        """Yield a line for each pair of settings that contradict each other."""
        yield from ()


def names(cls: type[ProducerSettings]) -> list[str]:
    """List the environment variables that a settings class reads."""
    return [str(spec.metadata["env"]) for spec in fields(cls)]


def with_current_names(cls: type[ProducerSettings], environ: Mapping[str, str]) -> dict[str, str]:
    """Return an environment with current names in place of old ones, and warn of each once.

    An old name stays where the current one is set too and differs: `load` refuses that.
    """
    found = dict(environ)
    for old, new in _renamed(cls).items():
        if old in found and found.get(new, "").strip() in {"", found[old].strip()}:
            found[new] = found.pop(old)
            _warn_of_old_name(old, new)
    return found


def misspelt(cls: type[ProducerSettings], environ: Mapping[str, str]) -> Iterator[str]:
    """Name each SMSQ_ variable that is not read but resembles one that is, or begins one.

    What begins one is no mistake of a producer's, which does not know all of them.
    """
    known = {*names(cls), *_renamed(cls)}
    for name in _not_read(known, environ):
        begun = sorted(one for one in names(cls) if one.startswith(f"{name}_"))
        if begun and cls is not ProducerSettings:
            yield f"{name}: no such setting; did you mean {', '.join(begun)}?"
        elif hint := did_you_mean(name, known, cutoff=0.85):
            yield f"{name}: no such setting; {hint}"


def unknown(cls: type[ProducerSettings], environ: Mapping[str, str]) -> list[str]:
    """List the SMSQ_ variables that are not read, and so ignored."""
    return _not_read({*names(cls), *_renamed(cls)}, environ)


def _not_read(known: Container[str], environ: Mapping[str, str]) -> list[str]:
    return sorted(name for name in environ if name.startswith("SMSQ_") and name not in known)


def _set_twice(cls: type[ProducerSettings], environ: Mapping[str, str]) -> Iterator[str]:
    for old, new in _renamed(cls).items():
        if old in environ:
            yield f"{old}: is now {new}, which is set too and differs; set {new} alone"


def _renamed(cls: type[ProducerSettings]) -> dict[str, str]:
    found = {spec.metadata["renamed_from"]: spec.metadata["env"] for spec in fields(cls)}
    return {old: new for old, new in found.items() if old}


@cache
def _warn_of_old_name(old: str, new: str) -> None:
    log.warning("%s is now %s; the old name is accepted in this release only", old, new)
