"""Break everything at random, and then compare the ledger with the gateway's own log.

    make soak MESSAGES=10000 SECONDS=300 FAULTS=pause,freeze

Messages enter singly and in batches, are cancelled, paused and slowed, while faults occur in every
process and between them; see `soak.faults` for the kinds. All the while the sandbox times out after
accepting, resets, fails, sends garbage, and loses, doubles and hastens its reports. Every message
has a number of its own, so what the sandbox accepted for a number is the truth about its message.

What must hold, whatever happens: no message is lost or stuck, no thread of ours dies alone, what
the ledger says is true, and no SMS is sent twice, unless the policy is `resend` and it was counted.
Exits with 1 where that does not hold, and prints the histories of the messages concerned.

With RELEASE=0.2.0 the workers and the API are that release's, and CAMPAIGNS=no asks the same of
this tree's. With NUMBERS=well nothing is in doubt but by the faults:

    make soak CAMPAIGNS=no NUMBERS=well FAULTS=kill,term,redis,door [RELEASE=0.2.0]
"""

from __future__ import annotations

from soak.compare import Result, compare, read_journals
from soak.load import patiently
from soak.plan import SETTINGS, TOKEN

__all__ = ["SETTINGS", "TOKEN", "Result", "compare", "patiently", "read_journals"]
