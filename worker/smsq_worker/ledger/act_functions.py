"""Acts as Redis Functions, which keep between calls what a script makes anew in each.

What an act consists of, some 150 functions, costs more than most acts do. Where the server takes no
functions, or the user may not load them, the script does the same.

A library has one act, and a name with the ledger's schema and a digest of the code, as the settings
stand in it. So workers of other settings and releases call their own.
"""

from __future__ import annotations

import random
import re
import time
from hashlib import sha1
from typing import Any, Final

from redis.exceptions import NoPermissionError, ResponseError

from smsq import keys
from smsq.connection import Script
from smsq.functions import Runnable, evaluate, is_barred
from smsq.steps import Answers, Commands, Steps
from smsq_worker.ledger.lua_parts import PARTS, is_kept

PREFIX: Final = f"smsqw{keys.VERSION}_"
"""Not the one of the producers' libraries, which operators list and drop."""
AT_MOST: Final = 8
"""So many libraries of one act stay on the server. Whoever misses his own loads it again."""
BARRED_S: Final = 60.0
"""Until loading is tried again where it was refused."""

_COMMENTS: Final = re.compile(r"^ *--.*\n", re.MULTILINE)
_DECLARED: Final = re.compile(r"local ([\w, ]+?)( =|$)", re.MULTILINE)


class Function(Runnable):
    """An act as a function, or as the script that it was made of. Threads share it."""

    def __init__(self, act: str, text: str, script: Script) -> None:
        self.script, self.sha = script.script, script.sha
        self._of_act = f"{PREFIX}{act}_"
        self.name, self.library = library(self._of_act, text)
        self._barred_until = 0.0

    def run(self, args: tuple[Any, ...], after: Commands) -> Steps[Answers]:
        """Run it, as a function where that can be."""
        commands = [("FCALL", self.name, *args), *after]
        if time.monotonic() >= self._barred_until:
            answers = yield commands
            if not is_barred(answers[0]):
                return answers
            may_call = not isinstance(answers[0], NoPermissionError)
            if may_call and (yield from self._load()):
                answers = yield commands
                if not is_barred(answers[0]):
                    return answers
            self._barred_until = time.monotonic() + BARRED_S
        return (yield from evaluate(self.sha, self.script, args, after))

    def _load(self) -> Steps[bool]:
        """Load the library, and drop one of the same act where there are too many."""
        (loaded,) = yield [("FUNCTION", "LOAD", "REPLACE", self.library)]
        if isinstance(loaded, ResponseError):
            return False
        (found,) = yield [("FUNCTION", "LIST", "LIBRARYNAME", f"{self._of_act}*")]
        if isinstance(found, list) and len(found) > AT_MOST:
            names = [one["library_name"] if isinstance(one, dict) else one[1] for one in found]
            others = [name for name in names if name != self.name]
            yield [("FUNCTION", "DELETE", random.choice(others))]  # noqa: S311 - any will do
        return True


def library(of_act: str, script: str) -> tuple[str, str]:
    """Return the name of a script's library, which is that of its function too, and its code.

    Functions and constants, whose names are in capitals, stay from call to call; all else of the
    main chunk is done in each call: its locals are declared once, and set again.
    """
    body: list[str] = []
    in_each: list[str] = []

    def close() -> None:
        if in_each:
            body.append("".join(["in_each[#in_each + 1] = function()\n", *in_each, "end\n"]))
            in_each.clear()

    for part in PARTS.split(_COMMENTS.sub("", script)):
        if is_kept(part):
            close()
            body.append(part)
        elif declared := _DECLARED.match(part):
            # What is before it may mean another of that name.
            close()
            body.append(f"local {declared[1]}\n")
            in_each.append(part.removeprefix("local ") if declared[2] else f"{declared[1]} = nil\n")
        elif part.strip():
            in_each.append(part)
    close()
    code = "".join(["local KEYS, ARGV\nlocal in_each = {}\n", *body])
    name = of_act + sha1(code.encode(), usedforsecurity=False).hexdigest()[:8]
    return name, f"#!lua name={name}\n{code}{_REGISTER.replace('NAME', name)}"


_REGISTER: Final = """redis.register_function{function_name='NAME', callback=function(keys, args)
  KEYS, ARGV = keys, args
  for _, part in ipairs(in_each) do
    local answer = part()
    if answer ~= nil then return answer end
  end
end, flags={'allow-oom'}}
"""
