"""`python -m smsq_worker` is `smsq`."""

from smsq_worker.cli import main

main()
