"""How a producer's settings are written: each reads one, or raises ValueError with the rule."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Callable
from typing import Final
from urllib.parse import parse_qs, parse_qsl, urlsplit

from smsq import redis_urls

IN_MEMORY: Final = "memory://"
"""The address of a dev server's ledger, in its own process; docs/guides/testing.md."""
FERNET_KEY_BYTES: Final = 32
VERIFY_SECRET_CHARS: Final = 32
MAX_VERIFY_SECRETS: Final = 5
MAX_DIGITS: Final = 20
"""int() refuses thousands of digits with an error message about that."""


def number(least: float, most: float, *, above: bool = False) -> Callable[[str], float]:
    """Read a number from least (with `above`: more than least) to most."""
    allowed = f"a number from {least:g} to {most:g}"
    if above:
        allowed = f"a number above {least:g} up to {most:g}"

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


def flag(text: str) -> bool:
    """Read 0 or 1."""
    if text not in {"0", "1"}:
        raise ValueError("0 or 1")
    return text == "1"


def redis_address(text: str) -> str:
    """Read the URL of a server or of Sentinels; TLS must be told to check the certificate."""
    if redis_urls.names_sentinels(text):
        return _sentinel_address(text)
    allowed = "redis://host:port/db or rediss://host:port/db?ssl_cert_reqs=required"
    if "@" in "".join(re.split("[/?#]", text.partition("://")[2], maxsplit=1)[1:]):
        allowed += ", with / ? # % of a password as %2F %3F %23 %25"
    try:
        parts = urlsplit(text)
        # To redis-py and kombu port 0 is none, and so 6379, where another server may be; and they
        # leave out what is behind a #, which may be the rest of a password, and the host.
        is_good = "#" not in text and parts.port != 0 and is_host(parts.hostname or "")
        options = parse_qs(parts.query, keep_blank_values=True)
    except ValueError:
        raise ValueError(allowed) from None
    # The scheme as written: redis-py takes no capitals.
    if not (is_good and text.startswith(("redis://", "rediss://"))):
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
    check_tls_files(parts.query)
    return text


def ledger_address(text: str) -> str:
    """Read what SMSQ_REDIS_URL takes: memory://, or what `redis_address` does."""
    if text == IN_MEMORY:
        return text
    try:
        return redis_address(text)
    except ValueError as error:
        hint = f"; or {IN_MEMORY} for a dev server" if text.startswith("mem") else ""
        raise ValueError(f"{error}{hint}") from None


def _sentinel_address(text: str) -> str:
    try:
        good = all(is_host(host) for host, _ in redis_urls.read(text).hosts)
    except ValueError:
        good = False
    if not good:
        raise ValueError(redis_urls.ALLOWED)
    check_tls_files(text.partition("?")[2])
    return text


def check_tls_files(query: str) -> None:
    """Raise ValueError where a file of TLS that is there is a pipe, a device or a folder.

    Opening a pipe waits for a writer: so would the first connection, past every timeout.
    """
    for option, path in parse_qsl(query):
        if option in redis_urls.TLS_FILES and os.path.exists(path) and not os.path.isfile(path):  # noqa: PTH110, PTH113
            raise ValueError(f"an address whose {option} is a regular file")


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


def long_secrets(text: str) -> tuple[str, ...]:
    """Read secrets of verification codes, separated by commas."""
    found = tuple(part.strip() for part in text.split(","))
    if len(found) > MAX_VERIFY_SECRETS or min(map(len, found)) < VERIFY_SECRET_CHARS:
        raise ValueError(
            "1 to 5 secrets separated by commas, each of at least 32 characters, like "
            "`openssl rand -base64 32` makes"
        )
    return found


def is_host(name: str) -> bool:
    """Return whether a name can be looked up; for some a lookup would raise a UnicodeError."""
    try:
        name.encode("idna")
    except UnicodeError:
        return False
    return bool(name) and name.isprintable() and " " not in name
