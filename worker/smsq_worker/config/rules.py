"""What the ledger needs of the settings."""

from __future__ import annotations

from dataclasses import dataclass, field

from smsq_worker.config.parsers import CampaignWebhook
from smsq_worker.domain.accounts import Account, Route
from smsq_worker.domain.limits import Breaker, Hours, PhoneLimit, TemplatePauses
from smsq_worker.domain.testnumbers import Reported


@dataclass(frozen=True, slots=True)
class Rules:
    """What the ledger needs of the settings."""

    url: str
    lease_s: float
    report_wait_s: int
    retention_s: int
    max_resends: int
    rate_per_s: float
    rate_burst: int
    phone_limits: tuple[PhoneLimit, ...]
    bulk_hours: Hours | None
    breaker: Breaker | None
    template_pause: TemplatePauses
    probe_s: float
    webhook: bool
    campaign_webhook: CampaignWebhook
    """Whether the webhook gets each message of a campaign, or the campaign's end alone."""
    notice_lease_s: float
    redo_s: int = 0
    """How long what may be sent again keeps its number and code; 0: not at all."""
    wait_replicas: int = 0
    """How many replicas must have an admission before its request is sent, and a report."""
    test_numbers: Reported = field(default=(), repr=False)
    accounts: tuple[Account, ...] = ()
    """() where there is only one, whose rate is `rate_per_s`."""
    routes: tuple[Route, ...] = ()


def longest_post_s(connect_timeout_s: float, read_timeout_s: float) -> float:
    """Return a POST's longest time: connecting (lookup, addresses, TLS), writing, the answer."""
    return 2 * connect_timeout_s + read_timeout_s
