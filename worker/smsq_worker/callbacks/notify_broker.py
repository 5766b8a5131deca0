"""The broker of callback tasks, as Celery takes it."""

from __future__ import annotations

import ssl
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit

from smsq.redis_urls import Broker, as_broker, tls_options

_AS_PY_AMQP: Final = {
    "ssl_ca_certs": "ca_certs",
    "ssl_certfile": "certfile",
    "ssl_keyfile": "keyfile",
}


def as_notify_broker(url: str) -> Broker:
    """Return the address of SMSQ_NOTIFY_BROKER_URL as Celery takes it.

    py-amqp alone would check the certificate of amqps:// but not whose it is, and kombu would hand
    it TLS options under names that it does not know.
    """
    if not url.startswith("amqps://"):
        return as_broker(url)
    parts = urlsplit(url)
    options = tls_options(parts.query)
    rest = [pair for pair in parse_qsl(parts.query) if not pair[0].startswith("ssl_")]
    found: dict[str, Any] = {"cert_reqs": ssl.CERT_REQUIRED}
    if options["ssl_check_hostname"]:
        # By its name as it was written: kombu makes 127.0.0.1 of localhost.
        found["server_hostname"] = parts.hostname
    found |= {own: options[name] for name, own in _AS_PY_AMQP.items() if name in options}
    return Broker(parts._replace(query=urlencode(rest)).geturl(), ssl=found)
