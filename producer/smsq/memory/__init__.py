"""A ledger in this process' memory, for tests and for a dev server; it needs no Redis.

It keeps the rules of the ledger in Redis from the entry to the last report, as its Lua files do:
keys and conflicts, ttl and send_at, limits per number, suppression, doubt, resends, late and
doubled reports. It has no rate, pauses, breaker or hours of bulk, which are a worker's.
tests/behaviour holds both to the same cases.
"""

from smsq.memory.ledger import MemoryLedger
from smsq.memory.rules import Rules

__all__ = ["MemoryLedger", "Rules"]
