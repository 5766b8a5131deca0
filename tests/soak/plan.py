"""How large a soak is, and the settings that all processes share."""

from __future__ import annotations

from dataclasses import dataclass

TOKEN = "soak-report-token"
GATEWAY_HOST = "gateway.test"
"""A name, so that there is something to resolve; only the workers know it."""
LEASE_S = 8.0
OVER_LEASE_S = LEASE_S + 3.0
MAX_RESENDS = 1
SETTINGS = {
    "SMSQ_APP_SECRET": "soak-secret",
    "SMSQ_REPORT_TOKEN": TOKEN,
    "SMSQ_CONNECT_TIMEOUT_S": "0.5",
    "SMSQ_READ_TIMEOUT_S": "1",
    "SMSQ_LEASE_S": f"{LEASE_S:g}",
    "SMSQ_RETRY_FIRST_S": "0.2",
    "SMSQ_RETRY_MAX_S": "2",
    "SMSQ_REPORT_WAIT_S": "40",
    # The sandbox's 429 and 503 slow this down to a sixteenth.
    "SMSQ_RATE_PER_S": "2000",
    # Every number is used once.
    "SMSQ_PHONE_LIMITS": "",
    # Two thirds of the numbers fail by design; it opens all the same, now and then.
    "SMSQ_BREAKER": "40/60/10",
    "SMSQ_PROBE_S": "0.5",
}
WELL_RATE = "200"
"""Where nothing slows it down, the sandbox could not take more beside the faults."""
QUICK_CODES = '[codes."MO:0254"]\nretry_after_s = 1\n'
OTP_TTL_S = 20.0

WELL = "8000"
# Digits of the sandbox's table, see `smsq sandbox --outcomes`. Reports that ask for a resend of
# what was certainly not sent are left out: what the gateway accepts then is no duplicate.
BADLY = [
    *("4429", "4503", "4500", "4501", "4504"),
    *("6001", "6002", "6003", "6004", "6005", "6006", "6007", "6009", "6012"),
    *("6101", "6102", "6103", "6104", "6106", "6107", "6109", "6112"),
    *("7000", "7001", "7002", "7003", "7004", "7005", "7008", "7009", "7010", "7011", "2254"),
    *("1001", "2999", "4400"),
]
ENDINGS = [*[WELL] * 20, *BADLY]


@dataclass(frozen=True)
class Plan:
    """How large, how long, and which faults."""

    messages: int = 400
    seconds: float = 15.0
    workers: int = 3
    every_s: float = 2.0
    """Seconds from one fault to the next, on average."""
    freeze_s: float = 20.0
    """For how long Redis is frozen."""
    policy: str = "resend"
    seed: int = 1
    settle_s: float = 180.0
    """How long messages may take to settle when all faults are over."""
    faults: tuple[str, ...] = ()
    accounts: int = 1
    """At how many gateways, each with a sandbox; faults of a gateway are the first one's."""
    campaigns: bool = True
    """Whether batches belong to campaigns, and an operator is at work."""
    numbers: str = "all"
    """Which numbers: "well" for those alone that the gateway accepts and reports as it should."""
    release: str = ""
    """Whose workers and API run; empty for this tree's."""
