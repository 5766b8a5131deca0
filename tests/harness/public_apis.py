"""Three public SMS APIs as their documentation describes them. They share no code with smsq."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from http.client import HTTPConnection
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from harness.http_server import HttpServer, Response

Answer = tuple[int, object]
FORM = "application/x-www-form-urlencoded"


class Served(HttpServer):
    """A server; `handle` answers, as JSON but for bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.url = self.origin
        self.extra_headers: dict[str, str] = {}

    def respond(self, path: str, headers: dict[str, str], body: bytes) -> Response:
        lowered = {name.lower(): value for name, value in headers.items()}
        status, answer = self.handle(path, lowered, body)
        data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        return status, self.extra_headers, data

    def handle(self, path: str, headers: dict[str, str], body: bytes) -> Answer:
        raise NotImplementedError


def post(url: str, form: str, headers: dict[str, str] | None = None) -> tuple[int, bytes]:
    """POST a form as an API's pusher does."""
    parts = urlsplit(url)
    connection = HTTPConnection(str(parts.hostname), parts.port, timeout=10)
    try:
        target = f"{parts.path}?{parts.query}" if parts.query else parts.path
        connection.request("POST", target, form, {"Content-Type": FORM} | (headers or {}))
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


class Yunpian(Served):
    """云片, by 指定模板单发, 返回值 and 推送状态报告."""

    path = "/v2/sms/tpl_single_send.json"

    def __init__(self, apikey: str, templates: dict[str, list[str]]) -> None:
        super().__init__()
        self.apikey, self.templates = apikey, templates
        self.sent: list[dict[str, str]] = []
        """Of each SMS its variables, and its number as `mobile`."""
        self.fails_with: Answer | None = None
        """Instead of what the documentation says."""

    def handle(self, path: str, headers: dict[str, str], body: bytes) -> Answer:
        if self.fails_with:
            return self.fails_with
        if path != self.path or not headers["content-type"].startswith(FORM):
            return 404, b"<html>"
        fields = dict(parse_qsl(body.decode(), keep_blank_values=True, strict_parsing=True))
        if fields.get("apikey") != self.apikey:
            return self.error(-1, "非法的apikey")
        if not re.fullmatch("1[0-9]{10}", fields.get("mobile", "")):
            return self.error(2, "请求参数格式错误")
        wanted = self.templates.get(fields.get("tpl_id", ""))
        values = dict(parse_qsl(fields["tpl_value"])) if fields.get("tpl_value") else {}
        if wanted is None or {name.strip("#") for name in values} != set(wanted):
            return self.error(7, "模板不可用")
        self.sent.append(values | {"mobile": fields["mobile"]})
        # 64 bits, as the page warns.
        sid = 9_007_199_254_740_993 + len(self.sent)
        answer = {"code": 0, "msg": "发送成功", "count": 1, "fee": 0.05, "unit": "RMB"}
        return 200, answer | {"mobile": fields["mobile"], "sid": sid}

    @staticmethod
    def error(code: int, msg: str) -> Answer:
        return 400, {"http_status_code": 400, "code": code, "msg": msg, "detail": msg}

    def push(self, url: str, *reports: dict[str, Any], twice: bool = False) -> tuple[int, bytes]:
        """Push status reports, at most 100, as a field that holds JSON."""
        text = json.dumps([{"uid": None, "error_detail": None} | one for one in reports])
        form = urlencode({"sms_status": text})
        return post(url, urlencode({"sms_status": form.partition("=")[2]}) if twice else form)


class Submail(Served):
    """SUBMAIL, by SMS/XSend, API 错误代码与描述 and 短信 SUBHOOK 事件."""

    def __init__(self, appid: str, appkey: str, hook_key: str) -> None:
        super().__init__()
        self.appid, self.appkey, self.hook_key = appid, appkey, hook_key
        self.sent: list[dict[str, str]] = []
        self.fails_with: Answer | None = None

    def handle(self, path: str, headers: dict[str, str], body: bytes) -> Answer:
        if self.fails_with:
            return self.fails_with
        fields = dict(parse_qsl(body.decode(), keep_blank_values=True, strict_parsing=True))
        if path != "/sms/xsend.json" or fields["appid"] != self.appid:
            return self.error(101, "Incorrect APP ID")
        if fields["signature"] != self.appkey:
            return self.error(109, "Invalid appkey")
        self.sent.append({"to": fields["to"], **json.loads(fields["vars"])})
        return 200, {"status": "success", "send_id": f"{len(self.sent):032x}", "fee": 1}

    @staticmethod
    def error(code: int, msg: str) -> Answer:
        return 200, {"status": "error", "code": code, "msg": msg}

    def push(self, url: str, events: str, send_id: str, **more: str) -> tuple[int, bytes]:
        """Push one event, signed with the SUBHOOK's key."""
        token = f"{len(send_id):032x}"
        signature = hashlib.md5(f"{token}{self.hook_key}".encode()).hexdigest()
        own = {"events": events, "send_id": send_id, "token": token, "signature": signature}
        return post(url, urlencode(own | more))


class Twilio(Served):
    """Twilio, by Messages, status callbacks and Validating Signatures from Twilio."""

    def __init__(self, sid: str, token: str) -> None:
        super().__init__()
        self.sid, self.token = sid, token
        self.sent: list[dict[str, str]] = []
        self.fails_with: Answer | None = None

    def handle(self, path: str, headers: dict[str, str], body: bytes) -> Answer:
        if self.fails_with:
            return self.fails_with
        kind, _, given = headers.get("authorization", "").partition(" ")
        if kind != "Basic" or base64.b64decode(given).decode() != f"{self.sid}:{self.token}":
            return self.error(401, 20003, "Authenticate")
        if path != f"/2010-04-01/Accounts/{self.sid}/Messages.json":
            return self.error(404, 20404, f"The requested resource {path} was not found")
        fields = dict(parse_qsl(body.decode(), keep_blank_values=True, strict_parsing=True))
        if not re.fullmatch(r"\+[1-9][0-9]{7,14}", fields["To"]):
            return self.error(400, 21211, f"The 'To' number {fields['To']} is not valid")
        variables = json.loads(fields["ContentVariables"])
        if not all(isinstance(one, str) for one in variables.values()):
            return self.error(400, 21656, "The ContentVariables Parameter is invalid")
        self.sent.append(fields | {"variables": variables})
        message = {"sid": f"SM{len(self.sent):032x}", "status": "accepted", "error_code": None}
        return 201, message | {"to": fields["To"], "body": "", "error_message": None}

    @staticmethod
    def error(status: int, code: int, message: str) -> Answer:
        more = f"https://www.twilio.com/docs/errors/{code}"
        return status, {"code": code, "message": message, "more_info": more, "status": status}

    def call_back(
        self, url: str, known_as: str, signature: str | None = None, **fields: str
    ) -> tuple[int, bytes]:
        """POST a status callback to an address that it knows by another URL."""
        signed = known_as + "".join(name + fields[name] for name in sorted(fields))
        digest = hmac.new(self.token.encode(), signed.encode(), hashlib.sha1).digest()
        right = base64.b64encode(digest).decode()
        given = right if signature is None else signature
        return post(url, urlencode(fields), {"X-Twilio-Signature": given})


class Receiver(Served):
    """Takes reports as the HTTP API does, by a vendor."""

    def __init__(self, vendor: Any) -> None:
        super().__init__()
        self._vendor = vendor
        self.taken: list[tuple[str, str]] = []

    def handle(self, path: str, headers: dict[str, str], body: bytes) -> Answer:
        from smsq_worker.vendors.vendor import ReportRequest, WrongSignature

        _, _, query = path.partition("?")
        request = ReportRequest("POST", f"{self.url}{path}", headers, query.encode(), body)
        try:
            reports = self._vendor.read_reports(request)
        except WrongSignature:
            answer = self._vendor.report_answer("refused")
        else:
            self.taken += reports.good
            answer = self._vendor.report_answer("malformed" if reports.bad else "taken")
        return answer.status, answer.body
