"""Everything on one machine: which parts are needed, where they listen, in which order."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from smsq.settings import shown_url
from smsq_worker.local import services
from smsq_worker.local.ports import require_free, shown
from smsq_worker.local.services import SandboxOptions
from smsq_worker.local.stack import Stack
from smsq_worker.settings import Settings

REDIS_PORT: Final = 6379


@dataclass(frozen=True)
class Plan:
    """What to start, with the settings that all parts share."""

    environ: Mapping[str, str]
    settings: Settings
    redis_port: int | None
    """Where to start the embedded Valkey; None where SMSQ_REDIS_URL names a server."""
    with_sandbox: bool
    sandbox_options: SandboxOptions

    @property
    def gateway_url(self) -> str:
        """Give the gateway's address."""
        return self.settings.gateway_url

    @property
    def door_url(self) -> str:
        """Give the door's address."""
        return f"http://{shown(self.settings.door_bind)}/"

    @property
    def flower_url(self) -> str:
        """Give Flower's address."""
        return f"http://{shown(self.settings.flower_bind)}/"


def make_plan(
    environ: Mapping[str, str],
    *,
    redis_port: int = REDIS_PORT,
    sandbox_options: SandboxOptions | None = None,
) -> Plan:
    """Decide what to start: a server that the settings name is used, any other is started.

    Raises SettingsError where the settings are wrong or a port is in use.
    """
    own_redis = not environ.get("SMSQ_REDIS_URL")
    own_gateway = not environ.get("SMSQ_GATEWAY_URL")
    full = dict(environ)
    if own_redis:
        full["SMSQ_REDIS_URL"] = f"redis://127.0.0.1:{redis_port}/0"
    full.setdefault("SMSQ_REPORT_TOKEN", secrets.token_urlsafe(24))
    if own_gateway:
        if not full.get("SMSQ_APP_SECRET_FILE"):
            full.setdefault("SMSQ_APP_SECRET", secrets.token_urlsafe(24))
        binds = Settings.load(environ)
        full["SMSQ_GATEWAY_URL"] = f"http://{shown(binds.sandbox_bind)}/"
        full.setdefault(
            "SMSQ_SANDBOX_REPORT_URL",
            f"http://{shown(binds.door_bind)}/reports/{full['SMSQ_REPORT_TOKEN']}",
        )
        # The sandbox may be told to listen on a network of test machines.
        full.setdefault("SMSQ_GATEWAY_ALLOW_PLAINTEXT", "1")
    settings = Settings.load(full, need=("app_secret", "report_token"))
    if own_redis:
        require_free(("127.0.0.1", redis_port), "SMSQ_REDIS_URL")
    if own_gateway:
        require_free(settings.sandbox_bind, "SMSQ_SANDBOX_BIND")
    require_free(settings.door_bind, "SMSQ_DOOR_BIND")
    require_free(settings.flower_bind, "SMSQ_FLOWER_BIND")
    return Plan(
        environ=full,
        settings=settings,
        redis_port=redis_port if own_redis else None,
        with_sandbox=own_gateway,
        sandbox_options=sandbox_options or SandboxOptions(),
    )


def start(plan: Plan, stack: Stack, home: Path) -> None:
    """Start every part and wait until it is ready. Raises ServiceFailed."""
    if plan.redis_port is not None:
        stack.start(services.redis_server(plan.redis_port, home / "redis", os.environ))
    if plan.with_sandbox:
        stack.start(services.sandbox(plan.gateway_url, plan.environ, plan.sandbox_options))
    stack.start(services.door(plan.door_url, plan.environ))
    stack.start(services.worker(plan.settings.broker_url, plan.environ))
    stack.start(services.flower(plan.flower_url, plan.environ))


def addresses(plan: Plan) -> list[tuple[str, str]]:
    """Name what runs where, without secrets."""
    sandbox = "  (sandbox: sends no SMS)" if plan.with_sandbox else ""
    return [
        ("Redis", shown_url(plan.settings.redis_url)),
        ("Gateway", f"{plan.gateway_url}{sandbox}"),
        ("Door", plan.door_url),
        ("Flower", plan.flower_url),
    ]
