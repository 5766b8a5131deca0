"""Flower's configuration; `smsq flower` starts Flower with it.

Tasks' arguments are masked where they are published and again by the worker, so there is nothing
to mask here. Basic auth comes from FLOWER_BASIC_AUTH (user:password); `smsq flower` demands it
unless Flower listens on the loopback interface only.
"""

import os
from logging import getLogger  # A module `logging` here would be one of Flower's options.

from smsq_worker.infra.logs import JsonLines

# Flower has set up its log by now.
if os.environ.get("SMSQ_LOG_FORMAT", "").strip() == "json":
    for _handler in getLogger().handlers:
        _handler.setFormatter(JsonLines())

natural_time = True
tasks_columns = "name,uuid,args,state,result,received,runtime,worker"
# Looking at the queues must not wait for a worker that is gone.
inspect_timeout = 2000.0
max_tasks = 20_000
