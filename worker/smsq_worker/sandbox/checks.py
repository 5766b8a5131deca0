"""What the sandbox refuses before it looks at a number."""

from __future__ import annotations

import hmac
from collections.abc import Mapping

_ROUTE = {"module": "sms", "file": "send", "action": "send"}


def refusal(
    authorization: str, arguments: Mapping[str, str], secret: str
) -> tuple[str, str] | None:
    """Return why a request is refused, or None if it is valid.

    First a name for the counts, then the words for the client.

    `authorization` is the header as HTTP delivers it: its bytes read as Latin-1.
    """
    if not hmac.compare_digest(authorization.encode("latin-1"), secret.encode()):
        return ("wrong-secret", "校验失败")
    if any(arguments[name] != value for name, value in _ROUTE.items()):
        return ("wrong-route", "接口不存在")
    if not arguments["mobphone"]:
        return ("no-mobphone", "手机号码不能为空")
    if not arguments["smstemplate"]:
        return ("no-smstemplate", "短信模板不能为空")
    return None
