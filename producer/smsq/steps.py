"""What a call does with Redis, apart from the way there, which blocks or is awaited.

Such steps are a generator: it yields commands that are sent in one go, receives their answers, or
the error with which sending them failed, and returns the call's result.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Iterable, Sequence
from functools import partial
from typing import Any, Final, TypeVar

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")
Result = TypeVar("Result")

Commands = Sequence[tuple[Any, ...]]
Answers = list[Any]
"""One for each command; some may be errors."""
Steps = Generator[Commands, Answers, Result]
CallSteps = Generator[Commands | partial[None] | float | Awaitable[Any], Any, Result]
"""What a call does. They also yield what publishes wake-ups where the broker is another server, as
kombu blocks; seconds to pause; and in an async call what it is to await."""

RECONNECT: Final[Commands] = ()
"""In place of commands: what comes next goes over a new connection."""


def done(result: Result) -> Steps[Result]:
    """Return steps that ask for nothing and come to this result."""
    yield from ()
    return result


def answered(commands: Commands) -> Steps[Answers]:
    """Return the answers; raise the first that is an error."""
    return unfailed((yield commands))


def unfailed(answers: Answers) -> Answers:
    """Return the answers; raise the first that is an error."""
    for answer in answers:
        if isinstance(answer, Exception):
            raise answer
    return answers


def as_dict(answer: Any) -> dict[Any, Any]:
    """Return names with their values, which by RESP2 are a list of both."""
    return answer if isinstance(answer, dict) else dict(zip(answer[::2], answer[1::2], strict=True))


def abreast(several: Iterable[Steps[Result]]) -> Steps[list[Result]]:
    """Take all of these steps, each time in one exchange what they ask for next.

    What one of them raises ends all.
    """
    all_steps = list(several)
    results: dict[int, Result] = {}
    given: dict[int, Answers | None] = dict.fromkeys(range(len(all_steps)))
    while True:
        asked: dict[int, Commands] = {}
        for place, answers in given.items():
            try:
                asked[place] = all_steps[place].send(answers)  # type: ignore[arg-type]
            except StopIteration as done:
                results[place] = done.value
        if not asked:
            return [results[place] for place in range(len(all_steps))]
        try:
            rest = yield [command for commands in asked.values() for command in commands]
        except BaseException as error:
            all_steps[next(iter(asked))].throw(error)  # It may map the error.
            raise
        given = {}
        for place, commands in asked.items():
            given[place], rest = rest[: len(commands)], rest[len(commands) :]


def drive(steps: Generator[Asked, Answer, Result], do: Callable[[Asked], Answer]) -> Result:
    """Run the steps, `do`ing what each asks for; return the result."""
    try:
        asked = next(steps)
        while True:
            try:
                answer = do(asked)
            except BaseException as error:  # noqa: BLE001 - the steps raise it, or another
                asked = steps.throw(error)
            else:
                asked = steps.send(answer)
    except StopIteration as done:
        result: Result = done.value
        return result


async def adrive(
    steps: Generator[Asked, Answer, Result], do: Callable[[Asked], Awaitable[Answer]]
) -> Result:
    """Run the steps as `drive` does, awaiting what each asks for."""
    try:
        asked = next(steps)
        while True:
            try:
                answer = await do(asked)
            except BaseException as error:  # noqa: BLE001 - also that the task is cancelled
                asked = steps.throw(error)
            else:
                asked = steps.send(answer)
    except StopIteration as done:
        result: Result = done.value
        return result
