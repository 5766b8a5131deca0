"""What a stat code means and what smsq does about it, in words, English or Chinese."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Final

from smsq_worker.domain.codes import UNTIL_LIFTED_S, Code, CodeClass, Scope
from smsq_worker.infra.wording import exact_span

_LOCALE: Final = ("LC_ALL", "LC_MESSAGES", "LANG")


class Lang(StrEnum):
    """The language of codes and classes."""

    EN = "en"
    ZH = "zh"

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Lang:
        """Give the language of an environment: the first of its variables that is set counts."""
        locale = next(filter(None, map(environ.get, _LOCALE)), "")
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
        CodeClass.PENDING: "on its way, a final report is to follow",
        CodeClass.PERMANENT: "sending it again would end the same way",
        CodeClass.TRANSIENT: "sending it again later may succeed",
        CodeClass.UNKNOWN: "neither delivered nor failed for all that is known",
    },
    Lang.ZH: {
        CodeClass.DELIVERED: "短信已到达手机",
        CodeClass.PENDING: "短信已提交，最终状态报告随后到达",
        CodeClass.PERMANENT: "重发的结果也会相同",
        CodeClass.TRANSIENT: "稍后重发可能成功",
        CodeClass.UNKNOWN: "目前既不能认定送达，也不能认定失败",
    },
}


def meaning(code: Code, lang: Lang) -> str:
    """Say what a code means; in English with the vendor's Chinese beside it."""
    if lang is Lang.ZH:
        return code.zh or code.en or "未说明"
    beside = f" ({code.zh})" if code.zh and code.zh != code.en else ""
    return f"{code.en or 'no meaning is given'}{beside}"


def class_name(code_class: CodeClass, lang: Lang) -> str:
    """Name a class; in Chinese beside the word that the override file takes."""
    return f"{code_class} {_CLASS_NAMES_ZH[code_class]}" if lang is Lang.ZH else str(code_class)


def class_words(code_class: CodeClass, lang: Lang) -> str:
    """Say what a class means."""
    return _CLASS_WORDS[lang][code_class]


def action(code: Code) -> str:
    """Say in a few words what smsq does about a code and when."""
    first = {
        CodeClass.DELIVERED: "finish as delivered",
        CodeClass.PENDING: "wait for the final report",
        CodeClass.PERMANENT: "fail for good",
        CodeClass.TRANSIENT: f"resend after {exact_span(code.retry_after_s)}",
        CodeClass.UNKNOWN: "wait for a better report",
    }[code.code_class]
    return ", ".join([first, *_consequences(code)])


def _consequences(code: Code) -> Iterator[str]:
    """Say what follows for other messages."""
    if code.scope is Scope.FREQUENCY and code.retry_after_s:
        yield f"hold the number for {exact_span(code.retry_after_s)}"
    if code.suppress_s >= UNTIL_LIFTED_S:
        yield "suppress the number until lifted"
    elif code.suppress_s:
        yield f"suppress the number for {exact_span(code.suppress_s)}"
    if code.pause:
        yield f"pause the {code.pause}" + " on repeat" * (code.pause == "template")
    if code.slow_down:
        yield "slow down"
