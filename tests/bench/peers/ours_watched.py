"""smsq, message by message, by a worker whose events are on, as Flower switches them on."""

from __future__ import annotations

from bench.peers import ours_single

WORKER = (*ours_single.WORKER, "--task-events")
enqueue = ours_single.enqueue
