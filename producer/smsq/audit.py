"""What an operator does, as the audit stream keeps it: audit.lua writes it in the act itself."""

from __future__ import annotations

import json
import os
import re
from functools import cache
from getpass import getuser
from socket import gethostname
from typing import Final

_PHONE: Final = re.compile(r"(?<![0-9A-Za-z-])(1[3-9]\d)\d{4}(\d{4})(?![0-9A-Za-z-])")
OPERATOR: Final = "SMSQ_OPERATOR"
MAX_TEXT: Final = 200


def act(what: str, *, who: str = "", if_changed: bool = False, **arguments: object) -> str:
    """Return an act of an operator, as acts take it to be noted with their effect.

    What looks like a number is masked. With `if_changed` one that changes nothing is not noted.
    """
    given = {name: _shown(value) for name, value in arguments.items() if value not in (None, "")}
    text = json.dumps(given, ensure_ascii=False)
    return json.dumps([(who or operator())[:MAX_TEXT], what, text, if_changed])


def _shown(value: object) -> str:
    text = f"{value}"[:MAX_TEXT].encode(errors="replace").decode()  # a file's name may be no text
    return _PHONE.sub(r"\1****\2", text)


@cache
def _login() -> str:
    try:
        user = getuser()
    except (OSError, KeyError):  # a container's user without a name
        user = f"uid {os.getuid()}"
    return f"{user}@{gethostname()}"


def operator() -> str:
    """Return who acts: SMSQ_OPERATOR, or the login name and the host."""
    name = os.environ.get(OPERATOR, "").strip()
    return name if name and name.isprintable() else _login()
