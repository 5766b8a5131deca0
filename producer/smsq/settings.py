"""Settings from the environment: frozen, checked once, every bad value reported at once.

A settings class is a frozen dataclass whose fields are made by `setting`. The producer's are
here; the worker's, in `smsq_worker.settings`, use the same machinery.
"""

from __future__ import annotations

import base64
import difflib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import Field, dataclass, field, fields
from typing import Any, Final, Self
from urllib.parse import parse_qs, urlsplit

from smsq import redis_urls
from smsq.errors import SettingsError

FERNET_KEY_BYTES: Final = 32
MAX_DIGITS: Final = 20
"""int() refuses thousands of digits with a text of its own."""


def setting(
    env: str,
    parse: Callable[[str], Any],
    default: Any = None,
    *,
    secret: bool = False,
    **empty: Any,
) -> Any:
    """Declare a setting: its environment variable, how to read it, and what stands without it.

    `parse` raises ValueError whose text says what is allowed. A secret's value is neither shown
    by the dataclass's repr nor by an error. `empty` is what an empty text means; the default
    where it is not given.
    """
    return field(
        default=default,
        repr=not secret,
        metadata={"env": env, "parse": parse, "secret": secret, **empty},
    )


def number(least: float, most: float, *, above: bool = False) -> Callable[[str], float]:
    """Read a number from least (with `above`: more than least) to most."""
    allowed = f"a number {'above' if above else 'from'} {least:g} {'up ' * above}to {most:g}"

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            raise ValueError(allowed) from None
        if not least <= value <= most or (above and value == least):
            raise ValueError(allowed)
        return value

    return parse


def whole(least: int, most: int) -> Callable[[str], int]:
    """Read a whole number from least to most."""

    def parse(text: str) -> int:
        # int() alone would also take "1_000" and digits of other scripts.
        digits = text.isascii() and text.isdigit() and len(text) < MAX_DIGITS
        if not (digits and least <= int(text) <= most):
            raise ValueError(f"a whole number from {least} to {most}")
        return int(text)

    return parse


def redis_address(text: str) -> str:
    """Read the URL of a server or of Sentinels; TLS must be told to check the certificate."""
    if redis_urls.names_sentinels(text):
        return _sentinel_address(text)
    allowed = "redis://host:port/db or rediss://host:port/db?ssl_cert_reqs=required"
    try:
        parts = urlsplit(text)
        _ = parts.port
        options = parse_qs(parts.query, keep_blank_values=True)
    except ValueError:
        raise ValueError(allowed) from None
    # The scheme as written: redis-py takes no capitals.
    if not text.startswith(("redis://", "rediss://")) or not is_host(parts.hostname or ""):
        raise ValueError(allowed)
    database = parts.path.lstrip("/")
    if database and not (database.isascii() and database.isdigit()):
        raise ValueError(f"{allowed}, where db is a number")
    tls = parts.scheme == "rediss"
    if not options.keys() <= (redis_urls.TLS_OPTIONS if tls else frozenset()):
        raise ValueError(
            f"{allowed}; further options are {', '.join(sorted(redis_urls.TLS_OPTIONS))}"
        )
    # kombu takes a bare rediss:// to mean "encrypt, but trust anyone".
    if tls and options.get("ssl_cert_reqs") != ["required"]:
        raise ValueError(allowed)
    return text


def _sentinel_address(text: str) -> str:
    try:
        good = all(is_host(host) for host, _ in redis_urls.read(text).hosts)
    except ValueError:
        good = False
    if not good:
        raise ValueError(redis_urls.ALLOWED)
    return text


def fernet_keys(text: str) -> tuple[str, ...]:
    """Read Fernet keys, separated by commas."""
    found = tuple(part.strip() for part in text.split(","))
    for key in found:
        try:
            length = len(base64.b64decode(key, altchars=b"-_", validate=True))
        except ValueError:
            length = 0
        if length != FERNET_KEY_BYTES:
            raise ValueError(
                "Fernet keys separated by commas, each 32 bytes in URL-safe base64, "
                "like `openssl rand -base64 32 | tr +/ -_` makes"
            )
    return found


def is_host(name: str) -> bool:
    """Tell whether a name can be looked up: of some, Python raises a UnicodeError only then."""
    try:
        name.encode("idna")
    except UnicodeError:
        return False
    return bool(name) and name.isprintable() and " " not in name


def shown_url(url: str) -> str:
    """Give a URL without its user, password and options."""
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
        "SMSQ_REDIS_URL", redis_address, "redis://127.0.0.1:6379/0", secret=True
    )
    broker_url: str = setting("SMSQ_BROKER_URL", redis_address, "", secret=True)
    wait_replicas: int = setting("SMSQ_REDIS_WAIT_REPLICAS", whole(0, 9), -1)
    retention_s: int = setting("SMSQ_RETENTION_S", whole(60, 366 * 86_400), 604_800)
    payload_keys: tuple[str, ...] = setting("SMSQ_PAYLOAD_KEYS", fernet_keys, (), secret=True)
    enqueue_timeout_s: float = setting("SMSQ_ENQUEUE_TIMEOUT_S", number(0, 300, above=True), 3.0)
    idle_timeout_s: float = setting("SMSQ_IDLE_TIMEOUT_S", number(0, 3600), 30.0)

    def __post_init__(self) -> None:
        if not self.broker_url:
            object.__setattr__(self, "broker_url", self.redis_url)
        if self.wait_replicas < 0:
            # Without it a failover makes calls be repeated of which nobody knows.
            replicas = 1 if redis_urls.names_sentinels(self.redis_url) else 0
            object.__setattr__(self, "wait_replicas", replicas)

    @classmethod
    def load(cls, environ: Mapping[str, str], *, need: tuple[str, ...] = ()) -> Self:
        """Read the settings from an environment.

        `need` names fields that must not be empty. Raises SettingsError with a line for every
        bad value: the setting, the value unless it is secret, and what is allowed.
        """
        values: dict[str, Any] = {}
        problems = list(misspelt(cls, environ))
        for spec in fields(cls):
            text = environ.get(spec.metadata["env"], "").strip()
            if not text:
                if "empty" in spec.metadata and spec.metadata["env"] in environ:
                    values[spec.name] = spec.metadata["empty"]
                continue
            try:
                values[spec.name] = spec.metadata["parse"](text)
            except ValueError as error:
                shown = "its value" if spec.metadata["secret"] else repr(text)
                problems.append(f"{spec.metadata['env']}: {shown} is not allowed; it takes {error}")
        settings = cls(**values)
        bad = {line.partition(":")[0] for line in problems}
        problems += [line for line in settings.missing(need) if line.partition(":")[0] not in bad]
        # What contradicts a bad value's default may well agree with what was meant.
        problems += [
            line for line in settings.contradictions() if not any(name in line for name in bad)
        ]
        if problems:
            raise SettingsError(problems)
        return settings

    def missing(self, need: tuple[str, ...]) -> Iterator[str]:
        """Name each needed setting that is not set."""
        by_name = {spec.name: spec for spec in fields(self)}
        for name in need:
            if not getattr(self, name):
                yield f"{by_name[name].metadata['env']}: must be set; it has no default"

    def contradictions(self) -> Iterator[str]:
        """Name each pair of settings that cannot stand together."""
        yield from ()


def names(cls: type[ProducerSettings]) -> list[str]:
    """List the environment variables that a settings class reads."""
    return [_env(spec) for spec in fields(cls)]


def misspelt(cls: type[ProducerSettings], environ: Mapping[str, str]) -> Iterator[str]:
    """Name each SMSQ_ variable that nobody reads but that resembles one somebody does."""
    known = names(cls)
    for name in sorted(environ):
        if name.startswith("SMSQ_") and name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.85)
            if near:
                yield f"{name}: no such setting; did you mean {near[0]}?"


def _env(spec: Field[Any]) -> str:
    return str(spec.metadata["env"])
