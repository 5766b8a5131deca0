"""The settings of everything that runs, from the environment.

One class for worker, API, sandbox and command line, so that one file of settings serves all of
them and each notices a misspelt name. Each role says which settings it needs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from smsq.parsers import IN_MEMORY, number, whole
from smsq.settings import ProducerSettings, setting
from smsq_worker.config import parsers as read
from smsq_worker.config.accounts_file import (
    MAX_BURST,
    MAX_RATE,
    MIN_RATE,
    SECRETS,
    AccountsFile,
    GatewayAccount,
)
from smsq_worker.config.accounts_file import read as read_accounts
from smsq_worker.config.gateway_address import EXPOSED, Address
from smsq_worker.config.parsers import Bind, CampaignWebhook, LogFormat, Network
from smsq_worker.config.rules import Rules, longest_post_s
from smsq_worker.domain import limits, testnumbers
from smsq_worker.domain.accounts import DEFAULT, Account
from smsq_worker.domain.limits import Breaker, Hours, PhoneLimit, TemplatePauses

DAY_S: Final = 86_400
OF_ONE_ACCOUNT: Final = (
    "SMSQ_APP_SECRET",
    "SMSQ_APP_SECRET_FILE",
    "SMSQ_RATE_PER_S",
    "SMSQ_RATE_BURST",
    "SMSQ_REPORT_TOKEN",
    "SMSQ_CODES_FILE",
)
"""What counts for the account that was the only one, and for no other."""


@dataclass(frozen=True, kw_only=True)
class Settings(ProducerSettings):
    """What an operator may set."""

    accounts_file: Path | None = setting("SMSQ_ACCOUNTS_FILE", Path)
    gateway_url: str = setting("SMSQ_GATEWAY_URL", read.http_url, "https://sms.1oc.cn/")
    allow_plaintext: bool = setting("SMSQ_GATEWAY_ALLOW_PLAINTEXT", read.flag, default=False)
    app_secret: str = setting("SMSQ_APP_SECRET", read.header_text, "", secret=True)
    app_secret_file: str = setting("SMSQ_APP_SECRET_FILE", read.secret_file, "", secret=True)
    ca_bundle: Path | None = setting("SMSQ_GATEWAY_CA_BUNDLE", read.ca_bundle)
    verify_tls: bool = setting("SMSQ_GATEWAY_VERIFY_TLS", read.flag, default=True)
    connect_timeout_s: float = setting("SMSQ_CONNECT_TIMEOUT_S", number(0, 60, above=True), 3.0)
    read_timeout_s: float = setting("SMSQ_READ_TIMEOUT_S", number(0, 300, above=True), 10.0)
    rate_per_s: float = setting("SMSQ_RATE_PER_S", number(MIN_RATE, MAX_RATE), 10.0)
    rate_burst: int = setting("SMSQ_RATE_BURST", whole(1, MAX_BURST), 1)
    phone_limits: tuple[PhoneLimit, ...] = setting(
        "SMSQ_PHONE_LIMITS",
        limits.phone_limits,
        limits.phone_limits("1/60,5/3600,10/86400"),
        empty=(),
    )
    bulk_hours: Hours | None = setting("SMSQ_BULK_HOURS", limits.hours)
    breaker: Breaker | None = setting(
        "SMSQ_BREAKER", limits.breaker, limits.breaker("20/50/60"), empty=None
    )
    template_pause: TemplatePauses = setting(
        "SMSQ_TEMPLATE_PAUSE", limits.template_pauses, limits.template_pauses(""), empty=()
    )
    probe_s: float = setting("SMSQ_PROBE_S", number(0, 3600, above=True), 30.0)
    retry_first_s: float = setting("SMSQ_RETRY_FIRST_S", number(0, 3600, above=True), 2.0)
    retry_max_s: float = setting("SMSQ_RETRY_MAX_S", number(0, DAY_S, above=True), 300.0)
    max_resends: int = setting("SMSQ_MAX_RESENDS", whole(0, 100), 2)
    lease_s: float = setting("SMSQ_LEASE_S", number(0, 3600, above=True), 60.0)
    report_wait_s: int = setting("SMSQ_REPORT_WAIT_S", whole(1, 30 * DAY_S), 3 * DAY_S)
    codes_file: Path | None = setting("SMSQ_CODES_FILE", read.existing_file)
    test_numbers: tuple[str, ...] = setting("SMSQ_TEST_NUMBERS", testnumbers.read, (), secret=True)
    report_token: str = setting("SMSQ_REPORT_TOKEN", read.path_token, "", secret=True)
    report_allow: tuple[Network, ...] = setting("SMSQ_REPORT_ALLOW", read.networks, ())
    trusted_proxies: tuple[Network, ...] = setting("SMSQ_TRUSTED_PROXIES", read.networks, ())
    report_spool_mb: int = setting("SMSQ_REPORT_SPOOL_MB", whole(1, 1_000_000), 256)
    relay_secret: str = setting("SMSQ_RELAY_SECRET", read.header_text, "", secret=True)
    relay_callers: Path | None = setting("SMSQ_RELAY_CALLERS_FILE", read.existing_file)
    return_url: str = setting("SMSQ_RETURN_URL", read.target_url, "", secret=True)
    webhook_url: str = setting("SMSQ_WEBHOOK_URL", read.target_url, "", secret=True)
    webhook_keys: tuple[bytes, ...] = setting(
        "SMSQ_WEBHOOK_SECRET", read.webhook_keys, (), secret=True
    )
    campaign_webhook: CampaignWebhook = setting(
        "SMSQ_CAMPAIGN_WEBHOOK", read.one_of("end or each"), "end"
    )
    outbound_allow: frozenset[str] = setting("SMSQ_OUTBOUND_ALLOW", read.hosts, frozenset())
    notify_broker_url: str = setting("SMSQ_NOTIFY_BROKER_URL", read.broker_address, "", secret=True)
    notify_queue: str = setting("SMSQ_NOTIFY_QUEUE", read.queue_name, "celery")
    notify_for_s: int = setting("SMSQ_NOTIFY_FOR_S", whole(1, 30 * DAY_S), DAY_S)
    api_bind: Bind = setting(
        "SMSQ_API_BIND", read.bind, ("127.0.0.1", 8080), renamed_from="SMSQ_DOOR_BIND"
    )
    sandbox_bind: Bind = setting("SMSQ_SANDBOX_BIND", read.bind, ("127.0.0.1", 8090))
    sandbox_report_url: str = setting("SMSQ_SANDBOX_REPORT_URL", read.http_url, "", secret=True)
    flower_bind: Bind = setting("SMSQ_FLOWER_BIND", read.bind, ("127.0.0.1", 5555))
    log_format: LogFormat = setting("SMSQ_LOG_FORMAT", read.one_of("text or json"), "text")
    traces: bool = setting("SMSQ_TRACES", read.flag, default=False)
    allow_eviction: bool = setting("SMSQ_ALLOW_EVICTION", read.flag, default=False)
    operator: str = setting("SMSQ_OPERATOR", read.person, "")
    home: Path = setting("SMSQ_HOME", Path, Path(".smsq"))

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.app_secret:
            object.__setattr__(self, "app_secret", self.app_secret_file)
        if not self.notify_broker_url:
            object.__setattr__(self, "notify_broker_url", self.broker_url)

    def contradictions(self) -> Iterator[str]:
        """Yield a line for each pair of settings that contradict each other."""
        yield from self._in_memory()
        if self.app_secret_file and self.app_secret != self.app_secret_file:
            yield "SMSQ_APP_SECRET_FILE: SMSQ_APP_SECRET is set too and differs; set one of them"
        if self.address.is_exposed and not self.allow_plaintext:
            yield f"SMSQ_GATEWAY_URL: {self.gateway_url!r} {EXPOSED}"
        for name, url in (
            ("SMSQ_RETURN_URL", self.return_url),
            ("SMSQ_WEBHOOK_URL", self.webhook_url),
        ):
            host = urlsplit(url).hostname or ""
            if url.startswith("http:") and host not in self.outbound_allow:
                yield f"{name}: plain http goes only to a host that SMSQ_OUTBOUND_ALLOW names"
        if bool(self.webhook_url) != bool(self.webhook_keys):
            yield "SMSQ_WEBHOOK_URL: it needs SMSQ_WEBHOOK_SECRET, and that needs it"
        if self.retry_first_s > self.retry_max_s:
            yield (
                f"SMSQ_RETRY_FIRST_S: {self.retry_first_s:g} is more than "
                f"SMSQ_RETRY_MAX_S, {self.retry_max_s:g}"
            )
        if self.lease_s <= self.longest_call_s:
            yield (
                f"SMSQ_LEASE_S: {self.lease_s:g} must be more than the longest call with its "
                "retries, which SMSQ_CONNECT_TIMEOUT_S and SMSQ_READ_TIMEOUT_S make "
                f"{self.longest_call_s:g}; or calls of live workers would be repeated"
            )
        yield from self._file.problems

    def _in_memory(self) -> Iterator[str]:
        if self.redis_url == IN_MEMORY:
            yield (
                "SMSQ_REDIS_URL: memory:// is for a backend's own process, and nobody else sees "
                "what is in it; here it must name a Redis or Valkey, like redis://127.0.0.1:6379/0"
            )

    @property
    def report_spool_bytes(self) -> int:
        """How much of the disk the reports may take that wait for Redis."""
        return self.report_spool_mb * 1024 * 1024

    @property
    def address(self) -> Address:
        """What the gateway's client needs."""
        return Address(
            url=self.gateway_url,
            secret=self.app_secret,
            verify=str(self.ca_bundle) if self.ca_bundle and self.verify_tls else self.verify_tls,
            connect_timeout_s=self.connect_timeout_s,
            read_timeout_s=self.read_timeout_s,
            idle_timeout_s=self.idle_timeout_s,
        )

    @cached_property
    def _file(self) -> AccountsFile:
        """What SMSQ_ACCOUNTS_FILE says, as of when it was first asked for."""
        alone = GatewayAccount(
            Account(DEFAULT, "", self.rate_per_s, self.rate_burst),
            self.address,
            report_token=self.report_token,
            codes_file=self.codes_file,
        )
        if self.accounts_file is None:
            return AccountsFile((alone,))
        return read_accounts(self.accounts_file, alone, allow_plaintext=self.allow_plaintext)

    @property
    def accounts(self) -> tuple[GatewayAccount, ...]:
        """All accounts; without SMSQ_ACCOUNTS_FILE the one of the other settings."""
        return self._file.accounts

    @property
    def longest_call_s(self) -> float:
        """The longest time of an attempt at any account, with retries and pauses."""
        return max((one.address.longest_call_s for one in self.accounts), default=0)

    def missing(self, need: tuple[str, ...]) -> Iterator[str]:
        """Yield a line for each needed setting that is not set, for any account."""
        if self.accounts_file is None:
            yield from super().missing(need)
            return
        yield from super().missing(tuple(name for name in need if name not in SECRETS))
        for name in need:
            yield from self._file.lacking.get(name, ())

    def overruled(self, environ: Mapping[str, str]) -> str:
        """Name the settings that are set and do not count, because of SMSQ_ACCOUNTS_FILE; or ""."""
        set_here = [name for name in OF_ONE_ACCOUNT if environ.get(name, "").strip()]
        inherited = any(not one.account.key for one in self.accounts)
        if inherited or not set_here:
            return ""
        return (
            f"{', '.join(set_here)}: of no account, as none in SMSQ_ACCOUNTS_FILE was_default; "
            "ignored"
        )

    @property
    def rules(self) -> Rules:
        """What the ledger needs."""
        several = self.accounts_file is not None
        return Rules(
            url=self.redis_url,
            lease_s=self.lease_s,
            report_wait_s=self.report_wait_s,
            retention_s=self.retention_s,
            redo_s=self.redo_s,
            max_resends=self.max_resends,
            rate_per_s=self.rate_per_s,
            rate_burst=self.rate_burst,
            phone_limits=self.phone_limits,
            bulk_hours=self.bulk_hours,
            breaker=self.breaker,
            template_pause=self.template_pause,
            probe_s=self.probe_s,
            webhook=bool(self.webhook_url),
            campaign_webhook=self.campaign_webhook,
            wait_replicas=self.wait_replicas,
            notice_lease_s=60 + longest_post_s(self.connect_timeout_s, self.read_timeout_s),
            accounts=tuple(one.account for one in self.accounts) if several else (),
            routes=self._file.routes,
        )
