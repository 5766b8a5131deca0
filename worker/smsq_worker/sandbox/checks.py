"""What the sandbox refuses before it looks at a number."""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import TYPE_CHECKING

from smsq_worker.sandbox.turns import Answer

if TYPE_CHECKING:
    from collections.abc import Mapping

_ROUTE = {"module": "sms", "file": "send", "action": "send"}


@dataclass(frozen=True, slots=True)
class Refusal:
    """A reason to refuse a call: `name` for the counts, `msg` for the caller."""

    name: str
    msg: str

    @property
    def answer(self) -> Answer:
        """Return the documented shape of a refusal."""
        return Answer(code=400, msg=self.msg)


WRONG_SECRET = Refusal("wrong-secret", "校验失败")
WRONG_ROUTE = Refusal("wrong-route", "接口不存在")
NO_PHONE = Refusal("no-mobphone", "手机号码不能为空")
NO_TEMPLATE = Refusal("no-smstemplate", "短信模板不能为空")


def refusal(authorization: str, arguments: Mapping[str, str], secret: str) -> Refusal | None:
    """Return why a call is refused, or None where it is a valid one.

    `authorization` is the header as HTTP brought it: its bytes read as Latin-1.
    """
    if not hmac.compare_digest(authorization.encode("latin-1"), secret.encode()):
        return WRONG_SECRET
    if any(arguments[name] != value for name, value in _ROUTE.items()):
        return WRONG_ROUTE
    if not arguments["mobphone"]:
        return NO_PHONE
    if not arguments["smstemplate"]:
        return NO_TEMPLATE
    return None
