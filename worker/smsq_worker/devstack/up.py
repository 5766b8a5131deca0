"""Everything on one machine: which parts are needed, where they listen, and in which order."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Final

from smsq.connection import connect_impatiently
from smsq.errors import LedgerUnavailable, SettingsError
from smsq.settings import shown_url, with_current_names
from smsq_worker.api.clients import weak
from smsq_worker.config.settings import Settings
from smsq_worker.devstack import services
from smsq_worker.devstack.processes import Stack
from smsq_worker.i18n import N_, _
from smsq_worker.infra import redis_fitness
from smsq_worker.infra.ports import Wish, find_ports, shown

REDIS_PORT: Final = 6379
REDIS_OPTION: Final = "--redis-port"
ACCOUNTS_OPTION: Final = "--accounts"
"""Of the sandbox: the file of those that it plays, without it the one of the settings."""
RELAY_SECRET_FILE: Final = "relay_secret"  # noqa: S105 - a name
"""In SMSQ_HOME; it stays, so that a client need not be told another one at each start."""


@dataclass(frozen=True)
class Plan:
    """What to start, and the settings that all parts share."""

    environ: Mapping[str, str]
    settings: Settings
    redis_port: int | None
    """Where to start the embedded Valkey; None if SMSQ_REDIS_URL names a server."""
    with_sandbox: bool
    sandbox_options: Sequence[str]
    """Those of `smsq sandbox`."""
    own_relay: bool
    """Whether the relay's secret was made here: then RELAY_SECRET_FILE shows it."""

    @property
    def api_url(self) -> str:
        """Return the address of the HTTP API."""
        return f"http://{shown(self.settings.api_bind)}/"

    @property
    def sandbox_url(self) -> str:
        """Return the address of the sandbox; where it plays several accounts, of its switches."""
        return f"http://{shown(self.settings.sandbox_bind)}/"

    @property
    def flower_url(self) -> str:
        """Return Flower's address."""
        return f"http://{shown(self.settings.flower_bind)}/"


def make_plan(
    environ: Mapping[str, str],
    *,
    redis_port: int = REDIS_PORT,
    sandbox_options: Sequence[str] = (),
) -> Plan:
    """Return what to start: servers that the settings name are used, any other is started.

    Port 0 stands for any free one. Raises SettingsError if the settings are wrong or a port is in
    use.
    """
    given = {name: text for name, text in environ.items() if is_set(name, text)}
    given = with_current_names(Settings, given)
    own_redis = "SMSQ_REDIS_URL" not in given
    # A file of accounts says where their gateways are.
    is_elsewhere = "SMSQ_ACCOUNTS_FILE" in given and ACCOUNTS_OPTION not in sandbox_options
    own_gateway = "SMSQ_GATEWAY_URL" not in given and not is_elsewhere
    if own_redis:
        services.server_binary()
    full = dict(_defaults(given, own_gateway=own_gateway)) | given
    # Before any port is tried, so that all problems of the settings are reported at once.
    settings = Settings.load(full, need=("app_secret", "report_token"))
    wishes = _wishes(settings, redis_port if own_redis else None, with_sandbox=own_gateway)
    listening = find_ports(wishes)
    redis = listening.pop(REDIS_OPTION, None)
    full |= {setting: shown(bind) for setting, bind in listening.items()}
    own_relay = not (settings.relay_secret or settings.relay_callers)
    if own_relay:
        full["SMSQ_RELAY_SECRET"] = _relay_secret(settings.home)
    if redis:
        full["SMSQ_REDIS_URL"] = f"redis://{shown(redis)}/0"
    if own_gateway:
        full["SMSQ_GATEWAY_URL"] = f"http://{full['SMSQ_SANDBOX_BIND']}/"
        report_url = f"http://{full['SMSQ_API_BIND']}/reports/{settings.report_token}"
        full.setdefault("SMSQ_SANDBOX_REPORT_URL", report_url)
    return Plan(
        environ=full,
        settings=Settings.load(full),
        redis_port=redis[1] if redis else None,
        with_sandbox=own_gateway,
        sandbox_options=sandbox_options,
        own_relay=own_relay,
    )


def is_set(name: str, text: str) -> bool:
    """Return whether a variable is set; a setting that is empty or blank is not."""
    return not name.startswith("SMSQ_") or bool(text.strip())


def make_folders(home: Path, *names: str) -> None:
    """Create folders and check that they are writable. Raises SettingsError."""
    for folder in (home, *(home / name for name in names)):
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            TemporaryFile(dir=folder).close()
        except OSError as error:
            raise SettingsError(
                [f"SMSQ_HOME: cannot keep files in {folder}: {error.strerror}; set another folder"]
            ) from None


def start(plan: Plan, stack: Stack, home: Path) -> None:
    """Start every part and wait until it is ready.

    Raises ServiceFailed, and SettingsError for a Redis that is too old.
    """
    if plan.own_relay:
        file = home / RELAY_SECRET_FILE
        file.touch(mode=0o600)
        file.write_text(f"{plan.settings.relay_secret}\n", encoding="ascii")
    if plan.redis_port is None:
        _check_server(plan.settings)
    else:
        stack.start(services.redis_server(plan.redis_port, home / "redis", os.environ))
    if plan.with_sandbox:
        stack.start(services.sandbox(plan.sandbox_url, plan.environ, plan.sandbox_options))
    stack.start(services.api(plan.api_url, plan.environ))
    stack.start(services.worker(plan.settings.broker_url, plan.environ))
    stack.start(services.flower(plan.flower_url, plan.environ))


def addresses(plan: Plan) -> list[tuple[str, str]]:
    """Return what runs where, without secrets."""
    sandbox = _("  (sandbox: sends no SMS)") if plan.with_sandbox else ""
    several = bool(plan.settings.rules.accounts)
    gateways = [
        f"{one.address.url}  ({one.account.name})" if several else one.address.url
        for one in plan.settings.accounts
    ]
    return [
        ("Redis", shown_url(plan.settings.redis_url)),
        *((N_("Gateway"), f"{url}{sandbox}") for url in gateways),
        ("API", plan.api_url),
        *_reports(plan),
        (N_("Relay"), f"{plan.api_url}{_authorization(plan)}"),
        ("Flower", plan.flower_url),
    ]


def _check_server(settings: Settings) -> None:
    # One that does not answer is for the parts to wait for.
    with suppress(LedgerUnavailable), closing(connect_impatiently(settings.redis_url, 3)) as client:
        redis_fitness.check(client, settings.redis_url, allow_eviction=settings.allow_eviction)


def _reports(plan: Plan) -> Iterator[tuple[str, str]]:
    """Yield where accounts of a file are to report; their tokens are secret."""
    if plan.settings.accounts_file is not None:
        names = ", ".join(one.account.name for one in plan.settings.accounts)
        own = _("  (each with its own report_token: {names})", names=names)
        yield N_("Reports"), f"{plan.api_url}reports/<report_token>{own}"


def _authorization(plan: Plan) -> str:
    file = plan.settings.home / RELAY_SECRET_FILE
    header = f'-H "Authorization: $(cat {file})"'
    return _("  with {header}", header=header) if plan.own_relay else ""


def _relay_secret(home: Path) -> str:
    """Return the secret of the last time, or a new one."""
    try:
        found = (home / RELAY_SECRET_FILE).read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        found = ""
    return found if found and not weak(found) else secrets.token_urlsafe(24)


def _defaults(given: Mapping[str, str], *, own_gateway: bool) -> Iterator[tuple[str, str]]:
    """Yield settings for this run, which apply where nothing is set."""
    if not _file_has_token(given):
        yield "SMSQ_REPORT_TOKEN", secrets.token_urlsafe(24)
    if own_gateway:
        # SMSQ_SANDBOX_BIND may be an address on a network of test machines.
        yield "SMSQ_GATEWAY_ALLOW_PLAINTEXT", "1"
        if "SMSQ_APP_SECRET_FILE" not in given:
            yield "SMSQ_APP_SECRET", secrets.token_urlsafe(24)


def _file_has_token(given: Mapping[str, str]) -> bool:
    """Return whether a file of accounts says the token that SMSQ_REPORT_TOKEN would say, too."""
    if "SMSQ_ACCOUNTS_FILE" not in given:
        return False
    with suppress(SettingsError):  # Its problems are reported with all others.
        accounts = Settings.load(given).accounts
        return any(one.report_token for one in accounts if not one.account.key)
    return False


def _wishes(settings: Settings, redis_port: int | None, *, with_sandbox: bool) -> Iterator[Wish]:
    if redis_port is not None:
        there = f"redis://127.0.0.1:{redis_port}/0"
        remedy = f"give another port, or set SMSQ_REDIS_URL={there} to use the server that is there"
        yield Wish(("127.0.0.1", redis_port), REDIS_OPTION, remedy)
    if with_sandbox:
        yield Wish(settings.sandbox_bind, "SMSQ_SANDBOX_BIND")
    yield Wish(settings.api_bind, "SMSQ_API_BIND")
    yield Wish(settings.flower_bind, "SMSQ_FLOWER_BIND")
