"""The memory ledger's door: the calls of a backend, of a worker, and of an operator."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from threading import RLock
from typing import TYPE_CHECKING, Concatenate, Final, ParamSpec, TypeVar

from smsq.cancelling import IN_DOUBT as CANCEL_IN_DOUBT
from smsq.cancelling import Cancellation
from smsq.cipher import PlaintextCipher
from smsq.contract import Lane, Message
from smsq.entries import NO_ORIGIN, Entered, Origin, as_entered, as_entry, campaign_error
from smsq.errors import KeyConflict
from smsq.ids import is_id, parse_id
from smsq.ledger_writer import IN_DOUBT
from smsq.memory import campaigns, entry, sending
from smsq.memory.book import Book
from smsq.memory.endings import ask_to_cancel
from smsq.memory.rules import Clock, Rules
from smsq.steps import Steps, done
from smsq.tracking import Status, status_of
from smsq.verify.rules import IN_DOUBT as CHECK_IN_DOUBT
from smsq.verify.rules import Guess, Wanted

if TYPE_CHECKING:
    from smsq.verify.challenge import Challenge
    from smsq.verify.memory_store import MemoryStore

P = ParamSpec("P")
Found = TypeVar("Found")

_CIPHER: Final = PlaintextCipher()


class MemoryLedger:
    """Messages of this process; every method may be called from any thread.

    As in Redis without a worker, messages do not move on their own: see `advance`.
    """

    def __init__(self, rules: Rules | None = None) -> None:
        self.rules, self.clock = rules or Rules(), Clock()
        self._book = Book(self.rules, self.clock)
        self._lock = RLock()

    # What a backend calls

    def entering(
        self, message_id: str, message: Message, origin: Origin = NO_ORIGIN
    ) -> Steps[Entered]:
        """Write a message; return what became of it. Raises KeyConflict: nothing is written."""

        def enter() -> Entered:
            (found,) = self._enter([(message_id, message)], origin)
            if isinstance(found, KeyConflict):
                raise found
            return found

        return self._call(IN_DOUBT, enter)

    def entering_many(
        self, messages: Sequence[tuple[str, Message]], stop_at_conflict: bool
    ) -> Steps[list[Entered | KeyConflict]]:
        """Write messages in one act; return the result of each, up to a conflict that stops it."""
        return self._call(IN_DOUBT, lambda: self._enter(messages, NO_ORIGIN, stop_at_conflict))

    def reading(self, message_id: str) -> Steps[Status | None]:
        """Return what is known of a message; None where nothing is."""
        return self._call("", lambda: self.look_up(message_id))

    def cancelling(self, message_id: str) -> Steps[Cancellation | None]:
        """Cancel a message as far as that is possible; None where nothing is known of it."""
        return self._call(CANCEL_IN_DOUBT, lambda: ask_to_cancel(self._book, message_id))

    def starting(self, wanted: Wanted) -> Steps[Challenge]:
        """Start a challenge and enter its message, or return the one that there is."""
        return self._call(IN_DOUBT, lambda: self._verifications.start(wanted))

    def checking(self, guess: Guess) -> Steps[bool]:
        """Return whether a code is its challenge's, and use it up."""
        return self._call(CHECK_IN_DOUBT, lambda: self._verifications.check(guess))

    def _call(self, doubt: str, act: Callable[[], Found]) -> Steps[Found]:  # noqa: ARG002
        """Perform what a backend calls; others do more, and may leave `doubt`."""
        with self._lock:
            return done(act())

    def look_up(self, message_id: str) -> Status | None:
        """Return what is known of a message, for others than the backend."""
        with self._at_once() as book:
            m = book.messages.get(message_id) if is_id(message_id) else None
            return status_of(message_id, campaigns.shown(book, m)) if m else None

    @cached_property
    def _verifications(self) -> MemoryStore:
        from smsq.verify.memory_store import MemoryStore

        def enter(message_id: str, message: Message) -> None:
            self._enter([(message_id, message)], NO_ORIGIN)

        def last_otp(phone: str) -> int:
            return self._book.numbers.last_sent(_CIPHER.phone_hash(phone))

        return MemoryStore(self.clock.now_ms, enter, last_otp, self.rules.at_most)

    def _enter(
        self,
        messages: Sequence[tuple[str, Message]],
        origin: Origin,
        stop_at_conflict: bool = False,
    ) -> list[Entered | KeyConflict]:
        entries = [(as_entry(_CIPHER, parse_id(one), m, origin), m) for one, m in messages]
        results: list[Entered | KeyConflict] = []
        with self._at_once() as book:
            barred = campaign_error(campaigns.join(book, (m.campaign for _, m in messages)))
            if barred:
                raise barred
            book.make_room(sum(one[0] not in book.messages for one, _ in entries))
            for one, message in entries:
                is_new = one[0] not in book.messages
                result = as_entered(one[0], entry.enter(book, one))
                results.append(result)
                if is_new and isinstance(result, Entered):
                    self._note(one[0], message, result)
                if stop_at_conflict and isinstance(result, KeyConflict):
                    break
        return results

    def _note(self, message_id: str, message: Message, entered: Entered) -> None:
        """Note a new message, for those that extend this ledger."""

    # What a worker and an operator do

    def act(
        self, do: Callable[Concatenate[Book, P], Found], *args: P.args, **kwargs: P.kwargs
    ) -> Found:
        """Perform an act of the modules beside this one."""
        with self._at_once() as book:
            return do(book, *args, **kwargs)

    def advance(self, seconds: float = 0) -> None:
        """Advance the clock, and run what is due then, as a worker's scheduler does."""
        with self._at_once() as book:
            self.clock.advance(seconds)
            campaigns.look_after(book)
            for m in book.due():
                sending.run_out(book, m)

    def ended(self) -> list[dict[str, str]]:
        """Take the callbacks for `notify` tasks: the fields of messages that have ended."""
        with self._at_once() as book:
            found = [*book.ended]
            book.ended.clear()
            return found

    def suppress(self, phone: str, reason: str, for_s: float, lanes: Sequence[Lane] = ()) -> None:
        """Send nothing to a number for a time, in some lanes or in all."""
        with self._at_once() as book:
            until = book.now + round(for_s * 1000)
            who = _CIPHER.phone_hash(phone)
            book.numbers.suppress(who, reason, until, lanes, replaces=True)

    @contextmanager
    def _at_once(self) -> Iterator[Book]:
        with self._lock:
            yield self._book
