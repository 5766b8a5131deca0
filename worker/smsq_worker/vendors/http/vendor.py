"""A vendor made of a description."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence

from smsq_worker.domain.codes import SMPP
from smsq_worker.vendors.http import description
from smsq_worker.vendors.http.answer import MIN_PRIVATE
from smsq_worker.vendors.vendor import (
    GatewayResult,
    ReportAnswer,
    ReportRequest,
    Reports,
    Request,
    Taken,
    VendorOptions,
)

NO_REPORTS = ReportAnswer(404, "text/plain; charset=utf-8", b"no reports are expected")


class HttpVendor:
    """One account at a vendor that a TOML file describes."""

    def __init__(self, options: VendorOptions) -> None:
        """Read the description. Raises SettingsError with a line for each mistake."""
        said = description.load(options)
        self._outgoing, self._answers, self._incoming = said.outgoing, said.answers, said.incoming
        _, _, password = options.secret.partition(":")
        encoded = base64.b64encode(options.secret.encode()).decode()
        self._private = (options.secret, password, encoded)
        self.url = f"{said.outgoing.origin}/"
        self.codes = (SMPP, *said.codes)
        signature = said.incoming.signature if said.incoming else None
        lacks = signature is not None and not signature.key
        self.reports_need = "secret, with which reports are signed" if lacks else ""

    def request(self, phone: str, template: str, code: str) -> Request:
        """Return the request of a message. Raises Unfit."""
        return self._outgoing.request(phone, template, code)

    def understand(
        self,
        status: int,
        headers: Mapping[str, str],
        body: bytes,
        private: Sequence[str] = (),
        *,
        trouble: str = "",
    ) -> GatewayResult:
        """Return what an answer means."""
        hidden = [*private, *self._private]
        if split := self._outgoing.variables.split:
            parts = [part for text in private for part in text.split(split)]
            hidden += [part for part in parts if len(part) >= MIN_PRIVATE]
        return self._answers.understand(status, headers, body, hidden, trouble=trouble)

    def read_reports(self, request: ReportRequest) -> Reports:
        """Return the reports in a request. Raises WrongSignature."""
        return self._incoming.read(request) if self._incoming else Reports((), 1)

    def report_answer(self, taken: Taken) -> ReportAnswer:
        """Return what the vendor is answered."""
        return self._incoming.answer_to(taken) if self._incoming else NO_REPORTS
