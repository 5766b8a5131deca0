"""What any service needs: HTTP with deadlines, DNS, the spool, logs, traces, heartbeats, ports."""
