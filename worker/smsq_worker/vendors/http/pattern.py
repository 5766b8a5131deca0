"""Regular expressions for answers that are not JSON, which no answer can keep busy for long.

A repetition never gives back what it took, as if it were written possessive (`a*+`): `[^,]*,` finds
a comma, `.*,` never does. With that, the few alternatives that are allowed and a bound on what is
read, the time is bounded too, whatever a server sends.
"""

from __future__ import annotations

import re
from typing import Final

MAX_PATTERN: Final = 200
MAX_BARS: Final = 4
MAX_TURNS: Final = 100
"""How often in all a group may have to be repeated: what matches nothing is repeated, too."""
MAX_READ: Final = 1024
"""Characters of a text; what is looked for stands at its beginning."""
GROUPS: Final = frozenset({"code", "mid", "words"})
ALLOWED: Final = (
    f"a regular expression of at most {MAX_PATTERN} characters with at most {MAX_BARS} |, with "
    "groups (?P<code>...), (?P<mid>...), (?P<words>...) or (?:...), without lookaround, "
    f"backreferences and flags, with counts like {{3}} behind groups of at most {MAX_TURNS} when "
    "multiplied, whose repetitions give nothing back (write [^,]*, and not .*,)"
)

_TOKEN: Final = re.compile(
    r"""\\[^0-9]                                    # an escape, but no backreference
    | \[\^?\]?(?:\\.|[^\]\\])*\]                     # a class
    | \((?:\?:|\?P<[a-z]+>|(?!\?))                   # a group
    | (?P<repeat>(?:[*+?]|\{[0-9]{0,3}(?:,[0-9]{0,3})?\})(?![*+?{]))
    | [^\\\[(*+?{]                                  # anything else as it is
    """,
    re.VERBOSE | re.DOTALL,
)


def pattern(text: object) -> re.Pattern[str]:
    """Return a pattern to be searched for in `MAX_READ` characters. Raises ValueError."""
    if not isinstance(text, str) or len(text) > MAX_PATTERN or text.count("|") > MAX_BARS:
        raise ValueError(ALLOWED)
    written: list[str] = []
    at, turns = 0, 1
    while at < len(text):
        token = _TOKEN.match(text, at)
        if token is None:
            raise ValueError(ALLOWED)
        least = re.match(r"\{([1-9][0-9]*)", token[0]) if written[-1:] == [")"] else None
        turns *= int(least[1]) if least else 1
        if turns > MAX_TURNS:
            raise ValueError(ALLOWED)
        written.append(token[0] + ("+" if token["repeat"] else ""))
        at = token.end()
    try:
        compiled = re.compile("".join(written), re.DOTALL)
    except (re.error, OverflowError, RecursionError):
        raise ValueError(ALLOWED) from None
    if not compiled.groupindex or not compiled.groupindex.keys() <= GROUPS:
        raise ValueError(ALLOWED)
    return compiled
