"""Flower's configuration; `smsq flower` starts Flower with it.

Tasks' arguments are masked where they are published and again by the worker, so there is nothing
to mask here. Basic auth comes from FLOWER_BASIC_AUTH (user:password); `smsq flower` demands it
unless Flower listens on the loopback interface only, and makes Flower read-only.
"""

import os as _os  # Another name here could be one of Flower's options.
from logging import getLogger as _getLogger

from flower import command as _command
from flower.options import options as _options
from flower.views.monitor import Metrics as _Metrics
from tornado.ioloop import IOLoop as _IOLoop
from tornado.web import authenticated as _authenticated

from smsq_worker.celery_worker import without_scripts as _without_scripts
from smsq_worker.infra.logs import JsonLines as _JsonLines

# Flower has set up its log by now.
if _os.environ.get("SMSQ_LOG_FORMAT", "").strip() == "json":
    for _handler in _getLogger().handlers:
        _handler.setFormatter(_JsonLines())

if "read_only" not in _options:
    raise SystemExit("smsq: this Flower knows no read-only mode: pip install 'smsq[worker]'")

# Flower's own shows workers and tasks to anybody, with or without a password.
_Metrics.get = _authenticated(_Metrics.get)

_without_scripts.install()


def _stop(*_: object) -> None:
    loop = _IOLoop.current()
    loop.asyncio_loop.call_soon_threadsafe(loop.stop)  # type: ignore[attr-defined]


# Flower's own raises SystemExit, which Python ignores in a weak reference's callback: then Flower
# never ended.
_command.sigterm_handler = _stop

natural_time = True
tasks_columns = "name,uuid,args,state,result,received,runtime,worker"
# Looking at the queues must not wait for a worker that is gone.
inspect_timeout = 2000.0
max_tasks = 20_000
