"""Stat codes, as a worker's catalogue has them."""

from __future__ import annotations

from dataclasses import fields
from functools import cache

from smsq.memory.rules import Meaning


@cache
def meaning_of(stat: str) -> Meaning:
    """Return what a report with this stat means; class unknown for one that is not listed."""
    # Only here the producer knows the worker: a copy of its catalogue would be another one soon.
    # It is in the same wheel, and these modules need no extra.
    from smsq_worker.delivery_reports.meaning import report_of
    from smsq_worker.domain.codes import Catalogue

    report = report_of(Catalogue.load(), stat)
    return Meaning(**{one.name: getattr(report, one.name) for one in fields(Meaning)})


def similar(stat: str) -> str:
    """Return a question whether a listed code spelt like this one is meant; "" without one."""
    from smsq_worker.domain.codes import Catalogue

    catalogue = Catalogue.load()
    near = [] if catalogue.get(stat) else catalogue.nearest(stat)
    return f"did you mean {' or '.join(near)}? " if near else ""
