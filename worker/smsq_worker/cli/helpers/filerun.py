"""How a run of `smsq send-file` goes, and what it says at its end."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NoReturn

import click

from smsq.cipher import opener
from smsq.connection import Client
from smsq.contract import State
from smsq.errors import SmsqError
from smsq_worker.bulk_import.campaign import Campaign
from smsq_worker.bulk_import.check import Checked, check, once
from smsq_worker.bulk_import.follow import follow
from smsq_worker.bulk_import.job import Job
from smsq_worker.bulk_import.numbers import Numbers
from smsq_worker.bulk_import.send import BulkSender
from smsq_worker.bulk_import.source import BadFile
from smsq_worker.cli.helpers import filereport
from smsq_worker.cli.helpers.meter import meter
from smsq_worker.config.settings import Settings
from smsq_worker.ledger.admin import Control
from smsq_worker.ledger.suppressed import SuppressedCounter

STOPPED: Final = 130
"""What a shell says of a command that Ctrl-C ended."""

_DOUBLES_SHOWN: Final = 10
_GOOD_ENDS: Final = {State.DELIVERED, State.DUPLICATE}


@dataclass(frozen=True, slots=True)
class Wish:
    """What was asked for, and what everything needs."""

    settings: Settings
    client: Client = field(repr=False)
    bad_path: Path | None
    follow: bool
    anew: bool
    as_json: bool
    quiet: bool

    def tell(self, found: dict[str, Any], *, err: bool = False) -> None:
        """Print what was found; JSON always goes to stdout."""
        if self.as_json:
            click.echo(json.dumps(found, ensure_ascii=False, indent=2))
            return
        for line in filereport.words(found):
            click.echo(line, err=err)


def fail(why: str, code: int) -> NoReturn:
    """Say why, and exit."""
    click.echo(f"smsq: {why}", err=True)
    raise SystemExit(code)


def dry_run(job: Job, wish: Wish) -> NoReturn:
    """Check everything, and say what a run would do. Raises BadFile and LedgerUnavailable."""
    settings = wish.settings
    cipher = opener(wish.client, settings, strict=True)
    # First, so that a ledger that does not answer is no surprise at the end.
    rate = Control(wish.client, settings.rules, cipher).rate()
    numbers = Numbers()
    suppressed = SuppressedCounter(wish.client, settings.redis_url, cipher())
    found = _check(job, wish, numbers, suppressed)
    told = filereport.would_be(found, numbers.doubles(_DOUBLES_SHOWN), suppressed.count(), rate)
    wish.tell(filereport.checked(found) | told)
    raise SystemExit(1 if found.bad else 0)


def send(job: Job, wish: Wish) -> NoReturn:
    """Enqueue the file, or what is left of it. Raises BadFile, NotAgain, LedgerUnavailable."""
    with job.campaign(wish.settings.home, anew=wish.anew, follow=wish.follow) as campaign:
        run = _Run(job, wish, campaign)
        try:
            if campaign.noted.finished is None:
                run.send()
            run.end()
        except KeyboardInterrupt:
            run.stop()


def _check(
    job: Job,
    wish: Wish,
    numbers: Numbers | None = None,
    suppressed: SuppressedCounter | None = None,
) -> Checked:
    rows = job.rows()
    with (
        job.bad_rows(wish.bad_path, rows) as bad,
        meter("checked", None, quiet=wish.quiet) as step,
    ):
        found = check(
            rows, bad=bad, numbers=numbers, suppressed=suppressed, seen=lambda n: step(n, "")
        )
    if not found.rows:
        raise BadFile("the file has no row")
    return found


class _Run:
    """A run that enqueues."""

    def __init__(self, job: Job, wish: Wish, campaign: Campaign) -> None:
        self._job = job
        self._wish = wish
        self._campaign = campaign
        self._noted = campaign.noted
        self._before = campaign.noted.enqueued
        self._found = Checked()
        self._conflicts = filereport.Conflicts()

    def send(self) -> None:
        """Check what can be read twice, and enqueue what is not enqueued yet."""
        if self._job.source.seekable:
            self._found = _check(self._job, self._wish)
            if self._found.bad and not self._wish.bad_path:
                self._wish.tell(filereport.checked(self._found), err=True)
                fail("nothing was sent now: mend these rows, or say --bad-rows FILE", 2)
        try:
            self._enqueue()
        except BadFile as error:
            if not self._noted.done:
                raise
            self._broken_off(str(error), 1)
        except SmsqError as error:
            # Its text has the count of this run, and its cause is without.
            self._broken_off(str(error.__cause__ or error), 1)
        except OSError as error:
            self._broken_off(f"the disk fails: {error.strerror}", 1)
        if self._found.bad and not self._wish.bad_path:
            ((line, why),) = self._found.first
            self._broken_off(f"line {line}: {why}", 1)
        self._campaign.finish()

    def end(self) -> NoReturn:
        """Follow the messages if that was asked for, and say how it went."""
        told = self._told()
        failed = bool(self._found.bad or self._conflicts.count)
        if self._wish.follow:
            told["states"] = states = self._follow()
            failed = failed or bool(set(states) - _GOOD_ENDS)
        self._wish.tell(told)
        raise SystemExit(1 if failed else 0)

    def stop(self) -> NoReturn:
        """Say after Ctrl-C how far it has come."""
        if self._noted.finished is None:
            self._broken_off("stopped", STOPPED)
        self._wish.tell(self._told())
        how = "--wait without --anew" if self._wish.anew else "--wait"
        fail(f"stopped; the messages go on, and {how} follows them again", STOPPED)

    def _enqueue(self) -> None:
        job, wish = self._job, self._wish
        self._campaign.begin()
        rows = job.rows()
        key = job.key(self._noted.run)
        total = self._found.good if job.source.seekable else None
        with ExitStack() as stack:
            taken = iter(rows)
            if not job.source.seekable:
                bad = stack.enter_context(job.bad_rows(wish.bad_path, rows))
                taken = once(rows, self._found, bad, need_keys=key is None)
            step = stack.enter_context(meter("enqueued", total, self._noted.done, quiet=wish.quiet))
            sender = BulkSender(self._campaign, job.source, self._conflicts.add)
            sender.send(taken, key, lambda n: step(n, ""))
        if not (self._found.rows or self._noted.done):
            raise BadFile("the file has no row")

    def _follow(self) -> dict[str, int]:
        with meter("ended", self._noted.done, quiet=self._wish.quiet) as step:

            def told(states: Counter[str], live: int) -> None:
                words = ", ".join(f"{state} {n}" for state, n in sorted(states.items()))
                step(states.total() - live, words)

            wish = self._wish
            return dict(follow(wish.client, wish.settings.redis_url, self._campaign.ids, told))

    def _broken_off(self, why: str, code: int) -> NoReturn:
        self._wish.tell(self._told(), err=True)
        fail(f"{why}; {self._noted.done} rows are enqueued. {self._how_to_go_on()}", code)

    def _how_to_go_on(self) -> str:
        if self._job.source.seekable:
            return "The same command goes on with the rest, and enqueues no row twice"
        return (
            "The same input with the same keys, within 24 h, enqueues the rest: what is enqueued "
            "already is refused as a duplicate"
        )

    def _told(self) -> dict[str, Any]:
        noted = self._noted
        # Where all is enqueued already, nothing is checked again.
        found = filereport.checked(self._found) if self._found.rows else {}
        found |= self._conflicts.told()
        return found | {
            "enqueued": noted.enqueued + noted.before,
            "before": self._before + noted.before,
            "duplicates": noted.duplicates,
            "ids": str(self._campaign.ids),
            "finished": self._noted.finished is not None,
        }
