"""What a stat code means and what smsq does about it, for people."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from smsq_worker.domain.codes import UNTIL_LIFTED_S, Code, CodeClass, Scope
from smsq_worker.i18n import Lang, _, language, pgettext
from smsq_worker.inspection.formatting import in_lanes, span

_UPSTREAM: Final = "NNNN"
"""Stands for the number in the words of the entry for all answers of the upstream gateway."""


def meaning(code: Code) -> str:
    """Return what a code means; in English with the vendor's Chinese in brackets."""
    number = code.stat.partition(":")[2]
    if code.en.startswith(_UPSTREAM) and number.isdigit():
        return _(
            "the upstream gateway answered {number}; what that means it alone can say",
            number=number,
        )
    none = _("no meaning is documented")
    if language() is Lang.ZH:
        return code.zh or code.en or none
    vendors = f" ({code.zh})" if code.zh and code.zh != code.en else ""
    return f"{code.en or none}{vendors}"


def class_name(code_class: CodeClass) -> str:
    """Return a class's name; in English it is the one that the override file takes."""
    return pgettext("class", code_class)


def class_words(code_class: CodeClass) -> str:
    """Return what a class means."""
    words = {
        CodeClass.DELIVERED: _("the SMS reached the phone"),
        CodeClass.PENDING: _("in transit; a final report is to follow"),
        CodeClass.PERMANENT: _("sending it again would fail the same way"),
        CodeClass.TRANSIENT: _("sending it again later may succeed"),
        CodeClass.UNKNOWN: _("neither delivery nor failure is certain"),
    }
    return words[code_class]


def action(code: Code) -> str:
    """Return in a few words what smsq does about a code, and when."""
    return _(", ").join(_actions(code))


def _actions(code: Code) -> Iterator[str]:
    yield {
        CodeClass.DELIVERED: _("finish as delivered"),
        CodeClass.PENDING: _("wait for the final report"),
        CodeClass.PERMANENT: _("fail for good"),
        CodeClass.TRANSIENT: _("resend after {span}", span=span(code.retry_after_s)),
        CodeClass.UNKNOWN: _("wait for a better report"),
    }[code.code_class]
    if code.scope is Scope.FREQUENCY and code.retry_after_s:
        yield _("hold the number for {span}", span=span(code.retry_after_s))
    if code.suppress_s >= UNTIL_LIFTED_S:
        yield _("suppress the number until lifted") + in_lanes(code.suppress_lanes)
    elif code.suppress_s:
        yield _("suppress the number for {span}", span=span(code.suppress_s)) + in_lanes(
            code.suppress_lanes
        )
    if code.pause == "template":
        yield _("pause the template on repeat")
    elif code.pause:
        yield _("pause the account")
    if code.slow_down:
        yield _("slow down")
