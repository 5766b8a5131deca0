"""What a stat code means and what smsq does about it, in English or Chinese."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Final

from smsq_worker.domain.codes import UNTIL_LIFTED_S, Code, CodeClass, Scope
from smsq_worker.inspection.formatting import span


class Lang(StrEnum):
    """The language of codes and classes."""

    EN = "en"
    ZH = "zh"

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Lang:
        """Return the language of an environment: the first of the variables that is set counts."""
        locale = next(filter(None, map(environ.get, ("LC_ALL", "LC_MESSAGES", "LANG"))), "")
        return cls.ZH if locale.lower().startswith("zh") else cls.EN


_CLASS_NAMES_ZH: Final = {
    CodeClass.DELIVERED: "已送达",
    CodeClass.PENDING: "等待最终状态",
    CodeClass.PERMANENT: "永久失败",
    CodeClass.TRANSIENT: "暂时失败",
    CodeClass.UNKNOWN: "结果未知",
}
_CLASS_WORDS: Final = {
    Lang.EN: {
        CodeClass.DELIVERED: "the SMS reached the phone",
        CodeClass.PENDING: "in transit; a final report is to follow",
        CodeClass.PERMANENT: "sending it again would fail the same way",
        CodeClass.TRANSIENT: "sending it again later may succeed",
        CodeClass.UNKNOWN: "neither delivery nor failure is certain",
    },
    Lang.ZH: {
        CodeClass.DELIVERED: "短信已送达手机",
        CodeClass.PENDING: "短信仍在途中，稍后会收到最终状态报告",
        CodeClass.PERMANENT: "重发也不会成功",
        CodeClass.TRANSIENT: "稍后重发可能成功",
        CodeClass.UNKNOWN: "暂时无法确定是否送达",
    },
}


def meaning(code: Code, lang: Lang) -> str:
    """Return what a code means; in English with the vendor's Chinese in brackets."""
    if lang is Lang.ZH:
        return code.zh or code.en or "未说明"
    vendors = f" ({code.zh})" if code.zh and code.zh != code.en else ""
    return f"{code.en or 'no meaning is documented'}{vendors}"


def class_name(code_class: CodeClass, lang: Lang) -> str:
    """Return a class's name; in Chinese after the name that the override file takes."""
    return f"{code_class} {_CLASS_NAMES_ZH[code_class]}" if lang is Lang.ZH else str(code_class)


def class_words(code_class: CodeClass, lang: Lang) -> str:
    """Return what a class means."""
    return _CLASS_WORDS[lang][code_class]


def action(code: Code) -> str:
    """Return in a few words what smsq does about a code, and when."""
    return ", ".join(_actions(code))


def _actions(code: Code) -> Iterator[str]:
    yield {
        CodeClass.DELIVERED: "finish as delivered",
        CodeClass.PENDING: "wait for the final report",
        CodeClass.PERMANENT: "fail for good",
        CodeClass.TRANSIENT: f"resend after {span(code.retry_after_s)}",
        CodeClass.UNKNOWN: "wait for a better report",
    }[code.code_class]
    if code.scope is Scope.FREQUENCY and code.retry_after_s:
        yield f"hold the number for {span(code.retry_after_s)}"
    if code.suppress_s >= UNTIL_LIFTED_S:
        yield f"suppress the number until lifted{_in_lanes(code)}"
    elif code.suppress_s:
        yield f"suppress the number for {span(code.suppress_s)}{_in_lanes(code)}"
    if code.pause:
        yield f"pause the {code.pause}" + " on repeat" * (code.pause == "template")
    if code.slow_down:
        yield "slow down"


def _in_lanes(code: Code) -> str:
    return f" in lane {' and '.join(code.suppress_lanes)}" if code.suppress_lanes else ""
