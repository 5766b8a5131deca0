"""Addresses that name Sentinels, and broker URLs as Celery takes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal
from urllib.parse import parse_qsl, quote, unquote, urlsplit

SCHEMES: Final = ("redis+sentinel://", "rediss+sentinel://")
TLS_FILES: Final = frozenset({"ssl_ca_certs", "ssl_certfile", "ssl_keyfile"})
TLS_OPTIONS: Final = frozenset(
    {"ssl_cert_reqs", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_check_hostname"}
)
"""What a URL's query may hold: redis-py and kombu raise a TypeError for what they do not know."""
OWN_OPTIONS: Final = frozenset({"sentinel_username", "sentinel_password"})
PORT: Final = 26379
TIMEOUT_S: Final = 1.0
"""A Sentinel that is away must not keep the next from being asked for long."""

ALLOWED: Final = (
    "redis+sentinel://user:password@host1:26379,host2:26379,host3:26379/service/db, or "
    "rediss+sentinel://...?ssl_cert_reqs=required; further options are "
    + ", ".join(sorted(TLS_OPTIONS | OWN_OPTIONS))
)


@dataclass(frozen=True)
class Sentinels:
    """Sentinels, and the service to ask them for."""

    hosts: tuple[tuple[str, int], ...]
    service: str
    db: int
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: Mapping[str, Any] = field(default_factory=dict)
    """Options of redis-py; empty where there is no TLS."""
    login: Mapping[str, str] = field(default_factory=dict, repr=False)
    """User and password for the Sentinels themselves."""

    @property
    def server_options(self) -> dict[str, Any]:
        """Options of redis-py for a connection to the server that they name."""
        return {"db": self.db, "username": self.username, "password": self.password, **self.tls}

    @property
    def options(self) -> dict[str, Any]:
        """Options of redis-py for a connection to a Sentinel: one try, and a short one."""
        return {
            "socket_timeout": TIMEOUT_S,
            "socket_connect_timeout": TIMEOUT_S,
            "retry": None,
            **({"ssl": True} if self.tls else {}),
            **self.tls,
            **self.login,
        }


@dataclass(frozen=True)
class Broker:
    """A broker as kombu and Celery take it."""

    url: str = field(repr=False)
    options: dict[str, Any] = field(default_factory=dict, repr=False)
    """To be added to the transport's options."""
    ssl: dict[str, Any] | Literal[False] = False
    """Celery's broker_use_ssl: Flower does not look for it in the URL."""


def names_sentinels(url: str) -> bool:
    """Return whether an address names Sentinels."""
    return url.startswith(SCHEMES)


def read(url: str) -> Sentinels:
    """Read an address that names Sentinels. Raises ValueError for another form."""
    scheme, _, rest = url.partition("://")
    rest, _, query = rest.partition("?")
    authority, _, path = rest.partition("/")
    userinfo, at, hosts = authority.rpartition("@")
    user, _, password = userinfo.partition(":")
    service, _, db = path.partition("/")
    service = unquote(service)
    pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    options = dict(pairs)
    tls = scheme.startswith("rediss")
    known = OWN_OPTIONS | (TLS_OPTIONS if tls else frozenset())
    checks = (
        service.isprintable() and service.strip() and "#" not in url,
        not db or (db.isascii() and db.isdigit()),
        options.keys() <= known and len(options) == len(pairs),
        not tls or options.get("ssl_cert_reqs") == "required",
    )
    if not all(checks):
        raise ValueError(ALLOWED)
    return Sentinels(
        hosts=tuple(map(_host, hosts.split(","))),
        service=service,
        db=int(db or 0),
        username=unquote(user) or None if at else None,
        password=unquote(password) or None if at else None,
        tls=tls_options(query) if tls else {},
        login={k.removeprefix("sentinel_"): v for k, v in options.items() if k in OWN_OPTIONS},
    )


def tls_options(query: str) -> dict[str, Any]:
    """Return a query's TLS options as redis-py takes them.

    Whose the certificate is, is always said to be checked: older redis-py would not by default.
    """
    found: dict[str, Any] = {k: v for k, v in parse_qsl(query) if k in TLS_OPTIONS}
    checked = found.get("ssl_check_hostname", "true").lower() not in {"false", "0"}
    return found | {"ssl_check_hostname": checked}


def as_broker(url: str) -> Broker:
    """Return a broker's address as Celery takes it; one without Sentinels is returned unchanged."""
    if not names_sentinels(url):
        tls = url.startswith("rediss://") and tls_options(urlsplit(url).query)
        return Broker(url, ssl=tls)
    at = read(url)
    login = ""
    if at.username or at.password:
        login = f"{quote(at.username or '', safe='')}:{quote(at.password or '', safe='')}@"
    urls = (
        f"sentinel://{login}{f'[{host}]' if ':' in host else host}:{port}/{at.db}"
        for host, port in at.hosts
    )
    options = {"master_name": at.service, "sentinel_kwargs": at.options}
    return Broker(";".join(urls), options, dict(at.tls) or False)


def _host(text: str) -> tuple[str, int]:
    parts = urlsplit(f"//{text}")
    host = parts.hostname or ""
    if not host or parts.netloc != text or "@" in text or parts.port == 0:
        raise ValueError(ALLOWED)
    return host, parts.port or PORT
