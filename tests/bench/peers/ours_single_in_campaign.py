"""smsq, message by message, with the name of a campaign."""

from __future__ import annotations

from functools import partial

from bench.peers import ours_single

WORKER = ours_single.WORKER
enqueue = partial(ours_single.enqueue, campaign="spring")
