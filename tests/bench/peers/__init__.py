"""smsq beside other task queues that do the same calls, and what its own parts cost.

Contenders are the modules beside this one that have WORKER and `enqueue`. The peers run in an
environment of their own, so they import nothing of smsq, and nothing else imports them.
"""
