"""What the sandbox refuses before it looks at a number."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from typing import NamedTuple

_ROUTE = {"module": "sms", "file": "send", "action": "send"}


class Refusal(NamedTuple):
    """A reason to refuse a request: `name` for the counts, `msg` for the client."""

    name: str
    msg: str


def refusal(authorization: str, arguments: Mapping[str, str], secret: str) -> Refusal | None:
    """Return why a request is refused, or None if it is valid.

    `authorization` is the header as HTTP delivers it: its bytes read as Latin-1.
    """
    if not hmac.compare_digest(authorization.encode("latin-1"), secret.encode()):
        return Refusal("wrong-secret", "校验失败")
    if any(arguments[name] != value for name, value in _ROUTE.items()):
        return Refusal("wrong-route", "接口不存在")
    if not arguments["mobphone"]:
        return Refusal("no-mobphone", "手机号码不能为空")
    if not arguments["smstemplate"]:
        return Refusal("no-smstemplate", "短信模板不能为空")
    return None
