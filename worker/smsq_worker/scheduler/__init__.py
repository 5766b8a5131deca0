"""What must happen later: retries, schedules, leases, lost wake-ups, probes."""
