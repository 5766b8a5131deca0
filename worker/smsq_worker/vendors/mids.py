"""Mids, the names that vendors give to messages. They are all that reports are matched by."""

from __future__ import annotations

import re
from typing import Final

from smsq_worker.domain.testnumbers import MID_PREFIX
from smsq_worker.vendors.text import trimmed

is_mid: Final = re.compile(rf"(?!{re.escape(MID_PREFIX)})[!-~]{{1,64}}").fullmatch
"""Whether a text is a mid as it is: 1 to 64 printable ASCII characters without blanks.

A test number's is none: it comes from nobody but a worker. It runs for each answer, so this is
the pattern's own method.
"""


def clean_mid(value: object) -> str:
    """Return the mid that a vendor wrote as a text or a whole number, or "" if it is not valid."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return ""
    text = trimmed(str(value))
    return text if is_mid(text) else ""
