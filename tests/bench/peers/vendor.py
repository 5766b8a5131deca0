"""The vendor's request, as every peer sends it."""

from __future__ import annotations

import os
from typing import Final

URL: Final = os.environ.get("BENCH_GATEWAY_URL", "")
REDIS_URL: Final = os.environ.get("BENCH_REDIS_URL", "")
HEADERS: Final = {"Authorization": os.environ.get("BENCH_APP_SECRET", "")}
TIMEOUT_S: Final = 10

TEMPLATE: Final = "SMS_1001"
CODE: Final = "482913"


def query(phone: str, template: str, code: str) -> dict[str, str]:
    """Give the parameters of the GET."""
    return {
        "module": "sms",
        "file": "send",
        "action": "send",
        "mobphone": phone,
        "code": code,
        "smstemplate": template,
    }


def check(answer: dict[str, object]) -> None:
    """Fail where the gateway refused."""
    if answer["code"] != 200:
        raise ValueError(answer["msg"])


def phones(first: int, count: int) -> list[str]:
    """Give numbers, all different."""
    return [f"139{n:08}" for n in range(first, first + count)]
