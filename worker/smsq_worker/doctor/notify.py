"""The queue of `notify=` tasks: whether anybody takes what smsq puts there."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, Final

import redis
from kombu import Connection

from smsq.connection import Client
from smsq.redis_urls import as_broker
from smsq.settings import shown_url
from smsq_worker.config.settings import Settings
from smsq_worker.doctor.access import TIMEOUT_S, on_redis
from smsq_worker.doctor.finding import Finding, error, ok, warning
from smsq_worker.doctor.neighbours import BINDING, OWN_DATABASE
from smsq_worker.doctor.queues import BROKER_ERRORS, ask_workers, workers_words
from smsq_worker.i18n import _
from smsq_worker.inspection.notify_queue import NotifyQueue, is_in_redis, look

SETTING: Final = "SMSQ_NOTIFY_BROKER_URL"


def check(settings: Settings) -> Iterator[Finding]:
    """Check who takes `notify=` tasks, in the broker to which they go."""
    if not is_in_redis(settings):
        yield _elsewhere(settings)
        return
    known = settings.notify_broker_url in {settings.broker_url, settings.redis_url}
    check = partial(_in_redis, settings)
    yield from on_redis(settings.notify_broker_url, SETTING, check, follows=known)


def is_own(settings: Settings) -> bool:
    """Return whether the tasks go to smsq's own broker, as they do by default."""
    return settings.notify_broker_url == settings.broker_url


def _in_redis(settings: Settings, client: Client) -> Iterator[Finding]:
    try:
        found = look(client, settings.notify_queue)
    except redis.exceptions.NoPermissionError:
        if not is_own(settings):
            raise
        # As with workers' user of ops/redis/users.acl: the queue is not one of smsq's.
        what = f"this user may not look into {_where(settings)}"
        yield ok(what, f"if you use notify=: {_advice(settings)}")
        return
    consumers = 0
    if found.waiting or client.exists(f"{BINDING}{found.name}"):
        workers = ask_workers(settings.notify_broker_url)
        if isinstance(workers, Finding):
            yield workers
            return
        consumers = sum(found.name in queues for _name, queues in workers)
    yield from judge(settings, found, consumers)


def _elsewhere(settings: Settings) -> Finding:
    """Query a broker that speaks AMQP, which knows a queue's consumers itself."""
    broker, name = as_broker(settings.notify_broker_url), settings.notify_queue
    try:
        with Connection(broker.url, ssl=broker.ssl, connect_timeout=TIMEOUT_S) as connection:
            channel: Any = connection.default_channel
            try:
                _name, waiting, consumers = channel.queue_declare(queue=name, passive=True)
            except connection.channel_errors:
                return ok(_("nothing was sent to {where} yet", where=_where(settings)))
    except BROKER_ERRORS as problem:
        what = f"{shown_url(settings.notify_broker_url)}: {type(problem).__name__}"
        advice = _(
            "start the broker, open the network path to it, or correct {setting}", setting=SETTING
        )
        return error(what, advice)
    return next(judge(settings, NotifyQueue(name, waiting, waiting, ()), consumers))


def judge(settings: Settings, found: NotifyQueue, consumers: int) -> Iterator[Finding]:
    """Judge what waits by who takes it."""
    where = _where(settings)
    if consumers:
        workers = workers_words(consumers)
        what = _("{n} waiting in {where}, {workers}", n=found.waiting, where=where, workers=workers)
        yield ok(what)
        if is_own(settings):
            what = _("the application consumes {where}, in smsq's database", where=where)
            yield warning(what, _(OWN_DATABASE))
    elif found.ours:
        named = f" ({', '.join(found.tasks)})" * bool(found.tasks)
        what = _(
            "{n} waiting in {where}{tasks}, and no worker consumes it: the application is told "
            "nothing",
            n=found.waiting,
            where=where,
            tasks=named,
        )
        yield error(what, _advice(settings))
    elif found.waiting and is_own(settings):
        what = _(
            "{n} tasks of other applications wait in queue {queue} of smsq's database",
            n=found.waiting,
            queue=found.name,
        )
        yield warning(what, _(OWN_DATABASE))
    else:
        yield ok(_("none of smsq's tasks waits in {where}", where=where))


def _where(settings: Settings) -> str:
    broker = shown_url(settings.notify_broker_url)
    return _("queue {queue} of {broker}, for notify=", queue=settings.notify_queue, broker=broker)


def _advice(settings: Settings) -> str:
    queue = settings.notify_queue
    if is_own(settings):
        return _(
            "smsq's own broker is the default: name the application's in {setting}, and the queue "
            "that its workers consume in SMSQ_NOTIFY_QUEUE (now {queue}), for smsq's workers, and "
            "restart them; what waits here is taken by a worker of the application that is started "
            "on this broker: celery -A YOUR_APP worker -Q {queue}",
            setting=SETTING,
            queue=queue,
        )
    return _(
        "start a worker of the application on it: celery -A YOUR_APP worker -Q {queue}; or name "
        "the broker and the queue that its workers consume in {setting} and SMSQ_NOTIFY_QUEUE, and "
        "restart smsq's workers",
        setting=SETTING,
        queue=queue,
    )
