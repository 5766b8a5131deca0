"""A vendor made of a description."""

from __future__ import annotations

from smsq_worker.domain.codes import SMPP
from smsq_worker.vendors.http import description
from smsq_worker.vendors.vendor import ReportAnswer, ReportRequest, Reports, Taken, VendorOptions

NO_REPORTS = ReportAnswer(404, "text/plain; charset=utf-8", b"no reports are expected")


class HttpVendor:
    """One account at a vendor that a TOML file describes."""

    def __init__(self, options: VendorOptions) -> None:
        """Read the description. Raises SettingsError with a line for each mistake."""
        outgoing, answers, self._incoming, codes = description.load(options)
        self.request, self.understand = outgoing.request, answers.understand
        self.url = f"{outgoing.origin}/"
        self.codes = (SMPP, *codes)
        signature = self._incoming.signature if self._incoming else None
        lacks = signature is not None and not signature.key
        self.reports_need = "secret, with which reports are signed" if lacks else ""

    def read_reports(self, request: ReportRequest) -> Reports:
        """Return the reports in a request. Raises WrongSignature."""
        return self._incoming.read(request) if self._incoming else Reports((), 1)

    def report_answer(self, taken: Taken) -> ReportAnswer:
        """Return what the vendor is answered."""
        return self._incoming.answer_to(taken) if self._incoming else NO_REPORTS
