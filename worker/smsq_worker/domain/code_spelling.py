"""How stat codes are spelled: as the catalogue does, as a gateway does, as a person does."""

from __future__ import annotations

import re

STAT_LIMIT = 32

# SMPP names each state twice, in full and in seven letters; the vendor's page mixes the two.
# MO:200 is the one numbered code that the vendor writes with three digits.
_SAME_AS = {
    "ACCEPTED": "ACCEPTD",
    "DELIVERED": "DELIVRD",
    "MO:0200": "MO:200",
    "REJECTD": "REJECTED",
    "UNDELIVERABLE": "UNDELIV",
}
# Possessive quantifiers: a hostile run of blanks is read once, not once for each blank.
_NUMBERED = re.compile(r"([A-Z]{2})\s*+:?\s*+([0-9]+)")
_OF_A_PREFIX = re.compile(r"([A-Z0-9]{1,8}):[0-9][0-9A-Z]*")
_WILDCARD = re.compile(r"([A-Z0-9]{1,8}):(?:\*|NNNN|XXXX)|([A-Z]{2})\*")
_FOREIGN = re.compile(r"[^A-Z0-9:_.-]")
_CLEAN = re.compile(rf"[A-Za-z0-9:_.-](?:[A-Za-z0-9:_. -]{{,{STAT_LIMIT - 2}}}[A-Za-z0-9:_.-])?")


def normalise(stat: str) -> str:
    """Return the catalogue's spelling of a stat code as a gateway or a person wrote it.

    Takes any text and never raises: the answer has 1 to 32 characters of A-Z 0-9 : _ . - with
    `?` for every other one (and at the end of a text that was cut); blank text is `EMPTY`.
    """
    plain = stat.strip().replace("\uff1a", ":")  # the colon of a Chinese keyboard
    text = plain.encode("ascii", "replace").decode("ascii").upper()
    if numbered := _NUMBERED.fullmatch(text):
        text = f"{numbered[1]}:{numbered[2].lstrip('0').zfill(4)}"
    if len(text) > STAT_LIMIT:
        # The mark keeps what is left from being taken for a code that it only begins like.
        text = text[: STAT_LIMIT - 1] + "?"
    return _SAME_AS.get(text) or _FOREIGN.sub("?", text) or "EMPTY"


def as_written(stat: str) -> str:
    """Return a stat code as the gateway wrote it, to be passed on.

    Where it could do harm to whoever reads it, or is too long to be a code, `normalise` answers.
    """
    text = stat.strip()
    return text if _CLEAN.fullmatch(text) else normalise(stat)


def as_key(written: str) -> str:
    """Return a person's spelling as a key; unlike a report's, it may name a wildcard."""
    found = _WILDCARD.fullmatch(written.strip().upper().replace("\uff1a", ":"))
    return f"{found[1] or found[2]}:*" if found else normalise(written)


def wildcard_of(key: str) -> str:
    """Return the name of the wildcard that may cover a code; "" where none can."""
    prefix = _OF_A_PREFIX.fullmatch(key)
    return f"{prefix[1]}:*" if prefix else ""
