"""The three channels of a callback: a Celery task, the vendor's own report, a signed webhook."""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import urlsplit

from celery import Celery
from kombu.exceptions import SerializationError

from smsq.app import PUBLISH_ERRORS
from smsq.contract import State
from smsq_worker.callbacks.dispatcher import Channel
from smsq_worker.callbacks.notify_broker import as_notify_broker
from smsq_worker.callbacks.poster import Posted, Poster, unsendable
from smsq_worker.callbacks.signing import event, header_id, signed
from smsq_worker.config.settings import Settings
from smsq_worker.ledger.callbacks import Callback
from smsq_worker.vendors.oneoc.relayed_report import vendor_notice

JSON = {"Content-Type": "application/json"}


def channels(settings: Settings) -> dict[str, Channel]:
    """Return the channels that the settings allow, by kind of callback."""
    own = (settings.webhook_url, settings.return_url)
    poster = Poster(
        settings.outbound_allow,
        frozenset(urlsplit(url).hostname or "" for url in own if url),
        connect_timeout_s=settings.connect_timeout_s,
        read_timeout_s=settings.read_timeout_s,
        idle_timeout_s=settings.idle_timeout_s,
    )

    def return_url(callback: Callback) -> Posted:
        outcome = callback.outcome
        state = State(outcome["state"])
        stat = callback.last_stat if state is State.UNREPORTED else outcome["stat"]
        body = vendor_notice(outcome["id"], state, stat, outcome["reason"], outcome["raw_stat"])
        if body is None:
            return Posted(done=True, detail="")
        return poster.post(callback.return_url or "", JSON, body)

    def webhook(callback: Callback) -> Posted:
        body = event(callback.outcome)
        at = int(time.time())
        headers = signed(settings.webhook_keys, header_id(callback.id), at, body)
        return poster.post(settings.webhook_url, JSON | headers, body)

    found: dict[str, Channel] = {"task": _tasks(settings), "returnurl": return_url}
    return found | ({"webhook": webhook} if settings.webhook_url else {})


def _tasks(settings: Settings) -> Channel:
    celery = _celery(settings)

    def task(callback: Callback) -> Posted:
        try:
            celery.send_task(
                callback.notify or "",
                (dict(callback.outcome),),
                # The same at each try, so that an endpoint can recognize repetitions.
                task_id=callback.id,
                queue=settings.notify_queue,
                argsrepr="(masked)",
                ignore_result=True,
            )
        except SerializationError as error:
            return unsendable(error)
        except PUBLISH_ERRORS as error:
            return Posted(done=False, detail=type(error).__name__)
        return Posted(done=True, detail="")

    return task


def _celery(settings: Settings) -> Celery:
    celery = Celery("smsq-notify", set_as_current=False, fixups=[])
    broker = as_notify_broker(settings.notify_broker_url)
    options: dict[str, Any] = {}
    if settings.notify_broker_url.startswith("redis"):
        options = {"socket_timeout": 10, "socket_connect_timeout": 5, **broker.options}
    celery.conf.update(
        # CELERY_BROKER_URL would override broker_url alone.
        broker_write_url=broker.url,
        broker_url=broker.url,
        broker_use_ssl=broker.ssl,
        broker_transport_options=options,
        task_serializer="json",
        task_publish_retry_policy={"max_retries": 1, "interval_start": 0.1},
    )
    return celery
