"""The gateway: whether it can be reached, and is the one that its certificate names.

A connection is made and closed. No byte of HTTP is sent, so neither an SMS nor the secret is.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlsplit

from urllib3.util.ssl_ import create_urllib3_context

from smsq_worker.config.parsers import is_loopback
from smsq_worker.config.settings import Settings
from smsq_worker.doctor.finding import Finding, error, ok, one_line, warning

TIMEOUT_S: Final = 3.0
DAY_S: Final = 86_400
RENEW_DAYS: Final = 14

EXPIRED, NOT_YET_VALID = 10, 9
WRONG_NAME: Final = frozenset({62, 64})
"""OpenSSL's numbers of what is wrong with a certificate."""


@dataclass(frozen=True)
class Way:
    """Where to connect, and how: as `gateway.client` does, with the same CAs and checks."""

    host: str
    port: int
    tls: bool
    verify: bool | str
    timeout_s: float

    @classmethod
    def of(cls, settings: Settings) -> Way:
        """Take it from the settings; nothing here waits longer than TIMEOUT_S."""
        parts = urlsplit(settings.gateway_url)
        tls = parts.scheme == "https"
        port = parts.port or (443 if tls else 80)
        timeout_s = min(settings.connect_timeout_s, TIMEOUT_S)
        return cls(parts.hostname or "", port, tls, settings.address.verify, timeout_s)


def examine(settings: Settings) -> Iterator[Finding]:
    """Look at the way to the gateway."""
    way = Way.of(settings)
    yield _secret(settings)
    yield _protection(settings.gateway_url, way)
    yield from _lookup(way)


def _secret(settings: Settings) -> Finding:
    if settings.app_secret:
        return ok("SMSQ_APP_SECRET is set")
    return warning(
        "SMSQ_APP_SECRET is not set here",
        "workers need it, by SMSQ_APP_SECRET or SMSQ_APP_SECRET_FILE; on other hosts leave it out",
    )


def _protection(url: str, way: Way) -> Finding:
    if not way.tls and is_loopback(way.host):
        return ok(f"{url}, plain http within this machine")
    if not way.tls:
        return warning(
            f"{url} is plain http: the network can read the secret, every number and every code",
            "use https and take SMSQ_GATEWAY_ALLOW_PLAINTEXT away",
        )
    if way.verify is False:
        return warning(
            f"{url}: the certificate is not verified, so anybody can pretend to be the gateway",
            "set SMSQ_GATEWAY_VERIFY_TLS=1, with SMSQ_GATEWAY_CA_BUNDLE for a CA of your own",
        )
    return ok(url)


def _lookup(way: Way) -> Iterator[Finding]:
    try:
        found = socket.getaddrinfo(way.host, way.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as problem:
        why = problem.strerror if isinstance(problem, OSError) else "not a name"
        yield error(
            f"the name {way.host} cannot be looked up: {why}",
            "check SMSQ_GATEWAY_URL and this machine's name servers",
        )
        return
    addresses = sorted({str(address[0]) for *_, address in found})
    yield ok(f"{way.host} is at {', '.join(addresses)}")
    yield from _connect(way)


def _connect(way: Way) -> Iterator[Finding]:
    began = time.monotonic()
    try:
        sock = socket.create_connection((way.host, way.port), way.timeout_s)
    except OSError as problem:
        yield error(
            f"port {way.port} takes no connection: {_why(problem, way)}",
            "check SMSQ_GATEWAY_URL, the firewalls between, and whether the gateway is up",
        )
        return
    with sock:
        yield ok(f"port {way.port} connects in {(time.monotonic() - began) * 1000:.0f} ms")
        if way.tls:
            yield _handshake(sock, way)


def _handshake(sock: socket.socket, way: Way) -> Finding:
    try:
        with _wrap(sock, way) as secured:
            certificate: Any = secured.getpeercert()
            return _certificate(certificate, secured.version() or "TLS")
    except ssl.SSLCertVerificationError as problem:
        return error(
            f"its certificate is refused: {problem.verify_message}",
            _remedy(problem.verify_code),
        )
    except OSError as problem:
        return error(
            f"the TLS handshake fails: {_why(problem, way)}",
            "check that SMSQ_GATEWAY_URL names a port that speaks TLS",
        )


def _wrap(sock: socket.socket, way: Way) -> ssl.SSLSocket:
    """Do what the gateway's own client does: without a bundle, the system's CAs count."""
    context = create_urllib3_context()
    context.check_hostname = way.verify is not False
    context.verify_mode = ssl.CERT_NONE if way.verify is False else ssl.CERT_REQUIRED
    if isinstance(way.verify, str):
        context.load_verify_locations(way.verify)
    elif way.verify:
        context.load_default_certs()
    return context.wrap_socket(sock, server_hostname=way.host.rstrip("."))


def _certificate(certificate: dict[str, Any], version: str) -> Finding:
    if not certificate:  # Python reads none that it does not verify.
        return ok(f"{version}; the certificate's end is unknown, for it is not verified")
    end = ssl.cert_time_to_seconds(certificate["notAfter"])
    days = (end - time.time()) / DAY_S
    told = f"{version}; the certificate is good until {datetime.fromtimestamp(end, UTC):%Y-%m-%d}"
    if days < RENEW_DAYS:
        return warning(f"{told}, {days:.0f} days", "have the gateway's operator renew it in time")
    return ok(told)


def _remedy(code: int) -> str:
    if code == EXPIRED:
        return "have the gateway's operator renew it; or this machine's clock is wrong"
    if code == NOT_YET_VALID:
        return "set this machine's clock"
    if code in WRONG_NAME:
        return "SMSQ_GATEWAY_URL must name the host as the certificate does"
    return "if the gateway's CA is one of your own, name it in SMSQ_GATEWAY_CA_BUNDLE"


def _why(problem: OSError, way: Way) -> str:
    if isinstance(problem, TimeoutError):
        return f"no answer within {way.timeout_s:g} s"
    if isinstance(problem, ssl.SSLError):
        return problem.reason or "no TLS"
    return problem.strerror or one_line(problem)
