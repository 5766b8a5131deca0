"""smsq, a campaign, with the name of a campaign."""

from __future__ import annotations

from functools import partial

from bench.peers import ours_bulk

WORKER = ours_bulk.WORKER
enqueue = partial(ours_bulk.enqueue, campaign="spring")
