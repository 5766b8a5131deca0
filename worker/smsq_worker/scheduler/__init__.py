"""What must happen later: retries, scheduled messages, leases, lost wake-ups, probes."""
