"""Acts as Redis Functions: what a script makes anew in each call is made once, by FUNCTION LOAD.

An act consists of some 150 functions, and to make these costs more than most acts do. Where the
server takes no functions, or the user may not load them, the script does the same.

A library has one act, and a digest of its code in its name, as the settings stand in the code. So
workers of other settings and releases call their own.
"""

from __future__ import annotations

import random
import re
import time
from hashlib import sha1
from typing import Any, Final

from redis.exceptions import NoPermissionError, ResponseError

from smsq.functions import Script, is_barred
from smsq.steps import Answers, Commands, Steps, as_dict
from smsq_worker.ledger.lua_parts import PARTS, is_kept

PREFIX: Final = "smsqw_"
"""Not the one of the producers' libraries, which operators list and drop."""
AT_MOST: Final = 8
"""So many libraries of one act stay on the server. Whoever misses his own loads it again."""
AGAIN_S: Final = 60.0
"""Until a process tries again what was refused, or loads again what was lost. With more settings
than libraries stay, each would have to be loaded at every other call."""

_COMMENTS: Final = re.compile(r"^ *--.*\n", re.MULTILINE)
_DECLARED: Final = re.compile(r"local (\w+(?:, \w+)*)( *=)?")


class Function(Script):
    """An act as a function, or as the script that it was made of."""

    def __init__(self, act: str, text: str, flags: str) -> None:
        super().__init__(flags + text)
        self._of_act = f"{PREFIX}{act}_"
        self.name, self.library = library(self._of_act, text)
        self._calls_at = self._loads_at = 0.0
        """From when on it may be called again, and loaded."""
        self._loads = 0

    def run(self, args: tuple[Any, ...], after: Commands) -> Steps[Answers]:
        """Run it, as a function where that can be."""
        if time.monotonic() >= self._calls_at:
            loads, call = self._loads, [("FCALL", self.name, *args), *after]
            answers = yield call
            if is_barred(answers[0]) and (yield from self._is_loaded(answers[0])):
                answers = yield call
            if not is_barred(answers[0]):
                return answers
            if loads == self._loads:  # no other thread has loaded it meanwhile
                self._calls_at = time.monotonic() + AGAIN_S
        return (yield from super().run(args, after))

    def _is_loaded(self, why_not: ResponseError) -> Steps[bool]:
        """Load the library, if it may be, and drop those of the same act that are too many."""
        now = time.monotonic()
        if isinstance(why_not, NoPermissionError) or now < self._loads_at:
            return False
        self._loads_at = now + AGAIN_S
        # First, so that nothing grows for one who may load them, and not list them.
        (found,) = yield [("FUNCTION", "LIST", "LIBRARYNAME", f"{self._of_act}*")]
        if isinstance(found, ResponseError):
            return False
        names = [as_dict(one)["library_name"] for one in found]
        # Any will do.
        for one in random.sample(names, max(0, len(names) - AT_MOST + 1)):
            (dropped,) = yield [("FUNCTION", "DELETE", one)]
            if isinstance(dropped, NoPermissionError):
                return False
        (loaded,) = yield [("FUNCTION", "LOAD", "REPLACE", self.library)]
        if isinstance(loaded, ResponseError):
            return False
        self._loads += 1
        self._calls_at = 0.0
        return True


def library(of_act: str, script: str) -> tuple[str, str]:
    """Return the name of a script's library, which is that of its function too, and its code.

    Functions and constants, whose names are in capitals, stay from call to call. All other
    statements are done in each call, in their order; what they declare `local` keeps its place. The
    tests hold acts to what that takes: no name is declared twice, and no constant is changed.
    """
    stays: list[str] = []
    in_each_call: list[str] = []
    for part in PARTS.split(_COMMENTS.sub("", script)):
        if is_kept(part):
            stays.append(part)
        elif declared := _DECLARED.match(part):
            stays.append(f"local {declared[1]}\n")
            has_value = bool(declared[2])
            in_each_call.append(
                part.removeprefix("local ") if has_value else f"{declared[1]} = nil\n"
            )
        else:
            in_each_call.append(part)
    code = "".join([*stays, _CALL, *in_each_call])
    name = of_act + sha1(code.encode(), usedforsecurity=False).hexdigest()[:8]
    return name, f"#!lua name={name}\nlocal KEYS, ARGV\n{code}{_REGISTER % name}"


_CALL: Final = """local function call(keys, args)
KEYS, ARGV = keys, args
"""
_REGISTER: Final = """end
redis.register_function{function_name='%s', callback=call, flags={'allow-oom'}}
"""
