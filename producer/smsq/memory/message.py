"""A message of a memory ledger."""

from __future__ import annotations

from typing import Final

from smsq.campaigns import came_to_nothing
from smsq.contract import FINAL, State

OF_THE_LIVE: Final = (
    *("expires", "hold", "resends", "doubt", "otherwise", "published", "who", "due", "waits"),
    *("trace", "key", "key_space", "stop"),
)
"""Fields that go when it ends."""


class Stored:
    """A message: its fields as texts, named as the ledger in Redis names them."""

    __slots__ = ("fields", "id", "timer")

    def __init__(self, message_id: str, fields: dict[str, str]) -> None:
        self.id, self.fields = message_id, fields
        self.timer: int | None = None
        """When something must happen, in ms: of a final message, when it is forgotten."""

    def __repr__(self) -> str:
        return f"Stored({self.id!r}, {self.state})"

    @property
    def state(self) -> State:
        """Where it stands."""
        return State(self.fields["state"])

    @property
    def is_final(self) -> bool:
        """Whether it has ended; better news may still come."""
        return self.fields["state"] in FINAL

    @property
    def lane(self) -> str:
        """Its lane."""
        return self.fields["lane"]

    @property
    def n(self) -> int:
        """The number of the last attempt; 0 before the first."""
        return int(self.fields.get("n", 0))

    @property
    def resends(self) -> int:
        """How many resends are used up."""
        return int(self.fields.get("resends", 0))

    @property
    def expires(self) -> int:
        """When its ttl is over, in ms."""
        return int(self.fields.get("expires", 0))

    def has(self, name: str) -> bool:
        """Return whether a field is set."""
        return name in self.fields

    def set(self, **fields: object) -> None:
        """Set fields."""
        self.fields.update({name: str(value) for name, value in fields.items()})

    def of(self, n: int, name: str) -> str | None:
        """Return a field of an attempt."""
        return self.fields.get(f"{n}:{name}")

    def note(self, n: int, **fields: object) -> None:
        """Set fields of an attempt."""
        self.fields.update({f"{n}:{name}": str(value) for name, value in fields.items()})

    def drop(self, *names: str) -> None:
        """Forget fields."""
        for name in names:
            self.fields.pop(name, None)

    @property
    def certainly_not_sent(self) -> bool:
        """Whether its attempts say so: none was accepted or is in doubt."""
        return came_to_nothing(self.fields)

    def is_last_sent(self, n: int) -> bool:
        """Return whether no attempt after n can have been sent."""
        return all(
            self.of(later, "at") is None or self.of(later, "outcome") in {"not_sent", "refused"}
            for later in range(n + 1, self.n + 1)
        )

    @property
    def is_known_accepted(self) -> bool:
        """Whether the last attempt that may have been sent was accepted, and not reported on."""
        for n in range(self.n, 0, -1):
            outcome = self.of(n, "outcome")
            if outcome == "accepted":
                return self.of(n, "stat") is None
            if self.of(n, "at") is not None and outcome not in {"not_sent", "refused"}:
                return False
        return False
