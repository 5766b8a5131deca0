"""The gateway: whether it can be reached, and is the host that its certificate names.

A connection is opened and closed. No byte of HTTP is sent, so neither an SMS nor the secret is.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlsplit

from smsq_worker.config.accounts_file import GatewayAccount
from smsq_worker.config.gateway_address import Address
from smsq_worker.config.settings import Settings
from smsq_worker.doctor.finding import Finding, error, ok, one_line, warning
from smsq_worker.i18n import N_, _, ngettext
from smsq_worker.infra.http import tls_context
from smsq_worker.vendors.of_accounts import catalogues_of

TIMEOUT_S: Final = 3.0
DAY_S: Final = 86_400
RENEW_DAYS: Final = 14
SHORT: Final = 8

EXPIRED, NOT_YET_VALID, WRONG_NAME, WRONG_ADDRESS = 10, 9, 62, 64
"""OpenSSL's numbers of what is wrong with a certificate."""
_MISNAMED: Final = N_("{setting} must name the host as the certificate does")
_REMEDIES: Final = {
    EXPIRED: N_("have the gateway's operator renew it; or this machine's clock is wrong"),
    NOT_YET_VALID: N_("set this machine's clock"),
    WRONG_NAME: _MISNAMED,
    WRONG_ADDRESS: _MISNAMED,
}


def check(settings: Settings) -> Iterator[Finding]:
    """Check the secret, the URL, the name, the port and the certificate of the only account."""
    (only,) = settings.accounts
    yield _secret(settings)
    yield from _reach(only, "SMSQ_GATEWAY_URL", check_test_numbers(settings))


def check_account(settings: Settings, name: str) -> Iterator[Finding]:
    """Check the same of one of several accounts."""
    one = next(one for one in settings.accounts if one.account.name == name)
    where = f"accounts.{name}"
    yield _secret_of(one, settings.accounts, where)
    yield from _reach(one, f"{where}.url")


def _reach(one: GatewayAccount, setting: str, between: Iterable[Finding] = ()) -> Iterator[Finding]:
    yield _protection(one.address)
    yield from between
    yield from _connection(one.address, setting)


def _secret(settings: Settings) -> Finding:
    if settings.app_secret:
        return ok(_("SMSQ_APP_SECRET is set"))
    advice = _(
        "workers need it, in SMSQ_APP_SECRET or SMSQ_APP_SECRET_FILE; on other hosts leave it out"
    )
    return warning(_("SMSQ_APP_SECRET is not set here"), advice)


def _secret_of(one: GatewayAccount, others: Sequence[GatewayAccount], where: str) -> Finding:
    secret, url = one.address.secret, one.address.url
    if not secret:
        what = _("{where}: its secret is not set here", where=where)
        return warning(what, _("workers need it; on other hosts leave it out"))
    same = [
        other.account.name
        for other in others
        if other is not one and (other.address.secret, other.address.url) == (secret, url)
    ]
    if same:
        return warning(
            _("{where} has the secret and the url of accounts.{other}", where=where, other=same[0]),
            _("to their vendor they are one account: it fails as one, and has one rate"),
        )
    if secret[0] in "\"'" or len(secret) < SHORT:
        what = _("{where}: its secret is shorter than {n}, or in quotes", where=where, n=SHORT)
        return warning(what, _("compare it with what the vendor gave you"))
    return ok(_("{where}: its secret is set", where=where))


def check_test_numbers(settings: Settings) -> Iterator[Finding]:
    """Yield which numbers are not sent to."""
    prefixes = settings.test_numbers
    if prefixes:
        what = ngettext(
            "{n} test number or pattern: messages to it are not sent",
            "{n} test numbers or patterns: messages to them are not sent",
            len(prefixes),
        )
        yield ok(what)
    catalogues = catalogues_of(settings)
    codes = {one.codes_file: catalogues[one.account.key].test_codes for one in settings.accounts}
    for file, of in codes.items():
        idle = [
            one for one in of if not any(one.startswith(p) or p.startswith(one) for p in prefixes)
        ]
        if not idle:
            continue
        what = ngettext(
            "{file} names a code for {n} number that SMSQ_TEST_NUMBERS does not cover",
            "{file} names codes for {n} numbers that SMSQ_TEST_NUMBERS does not cover",
            len(idle),
            file=file,
        )
        advice = _("messages to them are sent; name them there, or remove them from [test_numbers]")
        yield warning(what, advice)


def _protection(address: Address) -> Finding:
    url = address.url
    if address.is_exposed:
        what = _(
            "{url} is plain http: the network can read the secret, every number and every code",
            url=url,
        )
        return warning(what, _("use https and remove SMSQ_GATEWAY_ALLOW_PLAINTEXT"))
    if urlsplit(url).scheme == "http":
        return ok(_("{url}, plain http within this machine", url=url))
    if address.verify is False:
        what = _(
            "{url}: the certificate is not verified, so anyone can impersonate the gateway", url=url
        )
        advice = _("set SMSQ_GATEWAY_VERIFY_TLS=1, with SMSQ_GATEWAY_CA_BUNDLE for your own CA")
        return warning(what, advice)
    return ok(url)


def _connection(address: Address, setting: str) -> Iterator[Finding]:
    """Resolve the name, connect, and make the TLS handshake, as far as that works.

    With the same CAs and checks as `vendors.client`; `setting` is what names the address.
    """
    url, within_s = urlsplit(address.url), min(address.connect_timeout_s, TIMEOUT_S)
    host, is_tls = url.hostname or "", url.scheme == "https"
    port = url.port or (443 if is_tls else 80)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as problem:
        why = problem.strerror if isinstance(problem, OSError) else _("not a host name")
        what = _("the name {host} cannot be looked up: {why}", host=host, why=why)
        advice = _("check {setting} and this machine's name servers", setting=setting)
        yield error(what, advice)
        return
    addresses = sorted({str(one[-1][0]) for one in found})
    yield ok(_("{host} is at {addresses}", host=host, addresses=", ".join(addresses)))
    began = time.monotonic()
    try:
        sock = socket.create_connection((host, port), within_s)
    except OSError as problem:
        what = _("port {port} accepts no connection: {why}", port=port, why=_why(problem, within_s))
        advice = _(
            "check {setting}, the firewalls between, and whether the gateway is up", setting=setting
        )
        yield error(what, advice)
        return
    with sock:
        took_ms = (time.monotonic() - began) * 1000
        yield ok(_("port {port} connects in {ms:.0f} ms", port=port, ms=took_ms))
        if is_tls:
            yield _handshake(sock, host, address.verify, setting)


def _handshake(sock: socket.socket, host: str, verify: bool | str, setting: str) -> Finding:
    within_s = sock.gettimeout()
    try:
        context = tls_context(verify)
        with context.wrap_socket(sock, server_hostname=host.rstrip(".")) as secured:
            certificate: Any = secured.getpeercert()
            return _certificate(certificate, secured.version() or "TLS")
    except ssl.SSLCertVerificationError as problem:
        own_ca = N_("if the gateway's CA is your own, name it in SMSQ_GATEWAY_CA_BUNDLE")
        what = _("its certificate is rejected: {why}", why=problem.verify_message)
        return error(what, _(_REMEDIES.get(problem.verify_code, own_ca), setting=setting))
    except OSError as problem:
        advice = _("check that {setting} names a port that speaks TLS", setting=setting)
        return error(_("the TLS handshake fails: {why}", why=_why(problem, within_s)), advice)


def _certificate(certificate: dict[str, Any], version: str) -> Finding:
    if not certificate:  # Python parses none that it does not verify.
        words = _("{tls}; the certificate's expiry is unknown, as it is not verified", tls=version)
        return ok(words)
    end = ssl.cert_time_to_seconds(certificate["notAfter"])
    days = (end - time.time()) / DAY_S
    date = f"{datetime.fromtimestamp(end, UTC):%Y-%m-%d}"
    what = _("{tls}; the certificate is valid until {date}", tls=version, date=date)
    if days < RENEW_DAYS:
        what = _("{what}, {n:.0f} days", what=what, n=days)
        return warning(what, _("have the gateway's operator renew it in time"))
    return ok(what)


def _why(problem: OSError, within_s: float | None) -> str:
    if isinstance(problem, TimeoutError):
        return _("no answer within {s:g} s", s=within_s)
    if isinstance(problem, ssl.SSLError):
        return problem.reason or _("no TLS")
    return problem.strerror or one_line(problem)
