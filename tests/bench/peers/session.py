"""One requests session per thread, as its documentation advises."""

from __future__ import annotations

import threading

import requests

from bench.peers.vendor import HEADERS, TIMEOUT_S, URL, check, query

_local = threading.local()


def call(phone: str, template: str, code: str) -> None:
    """Call the gateway over the thread's own connection."""
    if not hasattr(_local, "session"):
        _local.session = requests.Session()
        _local.session.headers.update(HEADERS)
    answer = _local.session.get(URL, params=query(phone, template, code), timeout=TIMEOUT_S)
    check(answer.json())
