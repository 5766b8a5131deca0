"""The vendor as smsq speaks to it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final
from urllib.parse import quote_plus

import requests

from smsq_worker.domain.codes import ONEOC, SMPP
from smsq_worker.infra.http import Request
from smsq_worker.vendors.oneoc import delivery_report
from smsq_worker.vendors.oneoc.response import understand
from smsq_worker.vendors.vendor import ReportAnswer, ReportRequest, Reports, Taken, VendorOptions

URL: Final = "https://sms.1oc.cn/"
ACTION: Final = "module=sms&file=send&action=send"

_ANSWERS: Final[Mapping[Taken, tuple[int, str]]] = {
    "taken": (200, "ok"),
    "malformed": (400, 'a report is {"mid": "...", "stat": "..."}, or an array or a form of it'),
    "refused": (404, "no such address"),
    "no_room": (503, "try again"),
}


class OneOc:
    """One account at the vendor."""

    codes = (SMPP, ONEOC)
    reports_need = ""

    def __init__(self, options: VendorOptions) -> None:
        self.url = options.url or URL
        # Prepared, it has a slash after the host.
        self._url = f"{requests.Request('GET', self.url).prepare().url}?{ACTION}&"
        self._headers = {
            "Authorization": options.secret,
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "User-Agent": "smsq",
        }

    def request(self, phone: str, template: str, code: str) -> Request:
        """Return the GET that sends an SMS."""
        return Request(
            "GET",
            f"{self._url}mobphone={quote_plus(phone)}&code={quote_plus(code)}"
            f"&smstemplate={quote_plus(template)}",
            self._headers,
        )

    understand = staticmethod(understand)

    def read_reports(self, request: ReportRequest) -> Reports:
        """Return the reports of a request; the vendor does not sign them."""
        content_type = request.headers.get("content-type", "")
        return delivery_report.read(content_type, request.body, request.query)

    def report_answer(self, taken: Taken) -> ReportAnswer:
        """Return the answer in the vendor's own form."""
        code, msg = _ANSWERS[taken]
        body = json.dumps({"code": code, "msg": msg}, ensure_ascii=False, separators=(",", ":"))
        return ReportAnswer(code, "application/json", body.encode())
