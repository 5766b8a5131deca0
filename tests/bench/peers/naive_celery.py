"""Celery as most begin: a plain task, requests.get, threads."""

from __future__ import annotations

from collections.abc import Iterable

import requests
from celery import Celery

from bench.peers.vendor import CODE, HEADERS, REDIS_URL, TEMPLATE, TIMEOUT_S, URL, check, query

WORKER = (
    *("celery", "-A", "bench.peers.naive_celery", "worker"),
    *("--pool", "threads", "--concurrency", "64"),
)

app = Celery("naive", broker=REDIS_URL)


@app.task(ignore_result=True)
def send_sms(phone: str, template: str, code: str) -> None:
    """Call the gateway."""
    answer = requests.get(
        URL, params=query(phone, template, code), headers=HEADERS, timeout=TIMEOUT_S
    )
    check(answer.json())


def enqueue(phones: Iterable[str]) -> None:
    """Enqueue one task per number."""
    for phone in phones:
        send_sms.delay(phone, TEMPLATE, CODE)
