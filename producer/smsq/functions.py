"""The acts of producers, as a library of Redis Functions, and each as a script besides.

A worker loads the library when it starts, or an administrator does (`smsq functions load`), so a
producer's user needs no right to run scripts, by which anybody can hang a server. Where it is not
there, or the server knows no functions, the script does it, if the user may run one.

The library's name has the ledger's schema and a digest of the code. So the libraries of several
releases stand side by side, and no release calls another's code.
"""

from __future__ import annotations

import re
from hashlib import sha1
from importlib.resources import files
from typing import Any, Final

from redis.exceptions import NoPermissionError, NoScriptError, ResponseError

from smsq import keys
from smsq.steps import Answers, Commands, Steps

AT_THE_LIMIT: Final = frozenset({"cancel"})
"""Acts that Redis lets through at its memory limit, too: they free more than they take."""
_CANCELLING: Final = ("campaigns", "idempotency", "cancelling")
_ENQUEUE: Final = ("wakeup", *_CANCELLING, "key_holders", "enqueue")
_ACTS: Final = {
    "enqueue": _ENQUEUE,
    "unpublished": ("unpublished",),
    "verify_start": (*_ENQUEUE, "verify/shared", "verify/start"),
    "verify_check": ("verify/shared", "verify/check"),
    "cancel": ("audit", *_CANCELLING, "cancel"),
}
"""Each with the files that it is made of. The last defines the act, as a local of its name."""
PREFIX: Final = "smsq_"

# Of the command alone: an act that was refused something on its way has begun, and was refused it.
# Servers that know no functions name the command, each in its own words.
_NO_FUNCTION: Final = re.compile(
    r"Function not found|(?!.*user_function).*\bFCALL\b", re.IGNORECASE | re.DOTALL
)
_NOT_ALLOWED: Final = re.compile(
    r"no permissions to run the '(fcall|evalsha|script\|load)' command"
)


def lua(name: str) -> str:
    """Return a file of this folder."""
    return files("smsq").joinpath(f"{name}.lua").read_text(encoding="utf-8")


def _code(*names: str) -> str:
    return keys.fill_in("".join(map(lua, names)))


def _library() -> tuple[str, str]:
    body = _code(*dict.fromkeys(name for names in _ACTS.values() for name in names))
    digest = sha1(body.encode(), usedforsecurity=False).hexdigest()
    name = f"{PREFIX}{keys.VERSION}_{digest[:8]}"
    # Without flags a server at its memory limit refuses them, and so does a replica.
    calls = (
        f"redis.register_function{{function_name='{name}_{act}', callback={act}{_flags(act)}}}\n"
        for act in _ACTS
    )
    return name, "".join((f"#!lua name={name}\n", body, *calls))


def _flags(act: str) -> str:
    return ", flags={'allow-oom'}" if act in AT_THE_LIMIT else ""


LIBRARY, CODE = _library()
"""This release's library: its name, and what FUNCTION LOAD takes."""


class NotLoaded(ResponseError):  # noqa: N818 - says what is so
    """The act was not run, as a function or as a script."""


class Script:
    """An act as a script. Threads share it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.sha = sha1(text.encode(), usedforsecurity=False).hexdigest()

    def run(self, args: tuple[Any, ...], after: Commands) -> Steps[Answers]:
        """Run it, and load it before where the server has not heard of it; return the answers.

        `after` are commands to be sent along, over the same connection. The first answer may be an
        error.
        """
        commands = [("EVALSHA", self.sha, *args), *after]
        answers = yield commands
        if not isinstance(answers[0], NoScriptError):
            return answers
        (loaded,) = yield [("SCRIPT", "LOAD", self.text)]
        return [loaded, *answers[1:]] if isinstance(loaded, ResponseError) else (yield commands)


class Act(Script):
    """An act of the library, or the script in its place."""

    def __init__(self, name: str) -> None:
        self._function = f"{LIBRARY}_{name}"
        flags = "#!lua flags=allow-oom\n" if name in AT_THE_LIMIT else ""
        super().__init__(f"{flags}{_code(*_ACTS[name])}return {name}(KEYS, ARGV)\n")
        self._is_function = True
        """In which way it was run last; the other is tried where that way is barred."""

    def run(self, args: tuple[Any, ...], after: Commands) -> Steps[Answers]:
        """Run it; of errors NotLoaded means that the act was not run."""
        is_function = self._is_function  # Another thread may change it meanwhile.
        ways = (self._call, super().run)
        first, second = ways if is_function else reversed(ways)
        answers = yield from first(args, after)
        if not is_barred(answers[0]):
            return answers
        others = yield from second(args, after)
        if not is_barred(others[0]):
            self._is_function = not is_function
            return others
        by_function = answers if is_function else others
        return [_not_loaded(by_function[0]), *answers[1:]]

    def _call(self, args: tuple[Any, ...], after: Commands) -> Steps[Answers]:
        return (yield [("FCALL", self._function, *args), *after])


def is_barred(answer: Any) -> bool:
    """Return whether an answer says that an act was not even begun, for a lack of the way to it."""
    if isinstance(answer, NoPermissionError):
        return bool(_NOT_ALLOWED.search(str(answer)))
    return isinstance(answer, ResponseError) and bool(_NO_FUNCTION.match(str(answer)))


def _not_loaded(by_function: Any) -> NotLoaded:
    if isinstance(by_function, NoPermissionError):
        return NotLoaded(
            "its user may neither call functions nor run scripts: give it the right to FCALL"
        )
    return NotLoaded(
        f"it does not have the functions of this release ({LIBRARY}), and its user may not run "
        "scripts in their place: start a worker of this release, or let an administrator run "
        "`smsq functions load`"
    )
