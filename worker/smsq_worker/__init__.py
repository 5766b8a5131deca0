"""The worker's side of smsq: everything that runs."""
