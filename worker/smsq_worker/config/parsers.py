"""How settings are written: each function reads one, or raises ValueError with what is allowed."""

from __future__ import annotations

import base64
import ipaddress
import re
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal
from urllib.parse import parse_qsl, urlsplit

import requests

from smsq.parsers import check_tls_files, is_host, redis_address
from smsq.parsers import flag as flag  # noqa: PLC0414 - one of these parsers, too
from smsq.redis_urls import SCHEMES, TLS_OPTIONS

MAX_PORT: Final = 65_535
MIN_TOKEN: Final = 16
MAX_PERSON: Final = 100
MAX_SECRET: Final = 65_536
MAX_BUNDLE: Final = 16 * 1024 * 1024
"""Of a file of certificates: the public CAs take a fourth of a MiB."""
WEBHOOK_KEY: Final = "whsec_"
WEBHOOK_KEY_BYTES: Final = range(24, 65)

Bind = tuple[str, int]
LogFormat = Literal["text", "json"]
CampaignWebhook = Literal["end", "each"]


def bind(text: str) -> Bind:
    """Read HOST:PORT; port 0 means any free one."""
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not is_host(host) or not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > MAX_PORT:
        raise ValueError("HOST:PORT, like 127.0.0.1:8080")
    return host, int(port)


def one_of(allowed: str) -> Callable[[str], str]:
    """Read one of the words that `allowed` has between its "or"s."""

    def parse(text: str) -> str:
        if text not in allowed.split(" or "):
            raise ValueError(allowed)
        return text

    return parse


@contextmanager
def _or_else(allowed: str) -> Iterator[None]:
    """Raise ValueError with what is allowed, where anything within fails."""
    try:
        yield
    except (OSError, ValueError):  # those of requests and ssl are OSErrors
        raise ValueError(allowed) from None


def http_url(text: str) -> str:
    """Read an http or https URL without user, query or fragment."""
    with _or_else("https://host/path, without user, query or fragment"):
        parts = urlsplit(text)
        is_good = (
            parts.scheme in {"http", "https"}
            and is_host(parts.hostname or "")
            and parts.port != 0
            and not (parts.query or parts.fragment or "@" in parts.netloc)
            and text.isprintable()
        )
        if not is_good:
            raise ValueError
        requests.Request("GET", text).prepare()
    return text


def header_text(text: str) -> str:
    """Read a secret that goes into an HTTP header."""
    if not (text.isascii() and text.isprintable()):
        raise ValueError("printable ASCII on one line")
    return text


def person(text: str) -> str:
    """Read a name as the audit stream shows it."""
    if len(text) > MAX_PERSON or not text.isprintable():
        raise ValueError(f"printable text of at most {MAX_PERSON} characters, on one line")
    return text


def path_token(text: str) -> str:
    """Read a secret that goes into a URL's path."""
    if not re.fullmatch(rf"[A-Za-z0-9_-]{{{MIN_TOKEN},}}", text) or not text.strip("-_"):
        raise ValueError(f"at least {MIN_TOKEN} letters, digits, - and _")
    return text


def existing_file(text: str) -> Path:
    """Read the path of a file that is there."""
    with _or_else("the path of a file that exists"):
        # Raises OSError for one in a folder that may not be read.
        if not Path(text).is_file():
            raise ValueError
    return Path(text)


def secret_file(text: str) -> str:
    """Read a secret from the regular file of this path: opening a pipe would wait for a writer."""
    with _or_else("the path of a readable file that holds the secret"):
        with existing_file(text).open(encoding="utf-8") as file:
            secret = file.read(MAX_SECRET + 1).strip()
        if not secret or len(secret) > MAX_SECRET:
            raise ValueError
    return header_text(secret)


def ca_bundle(text: str) -> Path:
    """Read the path of a file of CA certificates."""
    path = existing_file(text)
    with _or_else("the path of a file of CA certificates in PEM form"):
        if path.stat().st_size > MAX_BUNDLE:
            raise ValueError
        ssl.create_default_context(cafile=path)
    return path


def target_url(text: str) -> str:
    """Read the http or https URL to which callbacks are POSTed; it may have a query."""
    head, _, query = text.partition("?")
    with _or_else("https://host/path?query, without user or fragment"):
        http_url(head)
        if not (query.isascii() and query.isprintable()) or set(query) & {"#", " "}:
            raise ValueError
    return text


def hosts(text: str) -> frozenset[str]:
    """Read names or addresses of hosts, separated by commas."""
    found = frozenset(part.strip().lower().strip("[]") for part in text.split(","))
    allowed = "hosts separated by commas, like hooks.example.com,10.0.0.7"
    if not all(is_host(name) and not set(name) & set("/*@?#") for name in found):
        raise ValueError(allowed)
    if any(name.count(":") == 1 for name in found):  # an IPv6 address has more
        raise ValueError(f"{allowed}; they are without a port, and stand for all of theirs")
    return found


Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def networks(text: str) -> tuple[Network, ...]:
    """Read addresses or networks, separated by commas."""
    with _or_else("addresses or networks separated by commas, like 203.0.113.7,10.0.0.0/8"):
        return tuple(ipaddress.ip_network(part.strip()) for part in text.split(","))


def webhook_keys(text: str) -> tuple[bytes, ...]:
    """Read the keys that sign webhooks, as Standard Webhooks writes them; each signs."""
    return tuple(_webhook_key(part.strip()) for part in text.split(","))


def _webhook_key(text: str) -> bytes:
    with _or_else("whsec_ and 24 to 64 bytes in base64; several separated by commas"):
        key = base64.b64decode(text.removeprefix(WEBHOOK_KEY), validate=True)
        if not text.startswith(WEBHOOK_KEY) or len(key) not in WEBHOOK_KEY_BYTES:
            raise ValueError
    return key


def broker_address(text: str) -> str:
    """Read the URL of a Celery broker: Redis, or one that speaks AMQP."""
    if text.startswith(("redis://", "rediss://", *SCHEMES)):
        return redis_address(text)
    with _or_else(
        "redis://, rediss://, redis+sentinel://, rediss+sentinel://, amqp:// or amqps://, "
        "like amqp://user:password@host:5672/vhost"
    ):
        parts = urlsplit(text)
        is_good = parts.scheme in {"amqp", "amqps"} and is_host(parts.hostname or "")
        if not (is_good and "#" not in text and parts.port != 0 and text.isprintable()):
            raise ValueError
        tls = {name: value for name, value in parse_qsl(parts.query) if name.startswith("ssl_")}
    if tls:
        is_secure = tls.get("ssl_cert_reqs", "required") == "required"
        if parts.scheme == "amqp" or not tls.keys() <= TLS_OPTIONS or not is_secure:
            raise ValueError(
                "amqps://host:port/vhost with the options of TLS that rediss:// takes: "
                f"{', '.join(sorted(TLS_OPTIONS))}; the certificate is always checked"
            )
        check_tls_files(parts.query)
    return text


def queue_name(text: str) -> str:
    """Read the name of a queue."""
    if not re.fullmatch(r"[A-Za-z0-9_.:-]{1,255}", text):
        raise ValueError("1 to 255 letters, digits and _ . : -")
    return text


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine, as its name alone shows."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
