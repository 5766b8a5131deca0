"""Flower's configuration; `smsq flower` starts Flower with it.

Tasks' arguments are masked where they are published and again by the worker, so there is nothing
to mask here. Basic auth comes from FLOWER_BASIC_AUTH (user:password); `smsq flower` demands it
unless Flower listens on the loopback interface alone.
"""

natural_time = True
tasks_columns = "name,uuid,args,state,received,started,runtime,worker"
# A look at the queues must not wait for a worker that is gone.
inspect_timeout = 2000.0
max_tasks = 20_000
