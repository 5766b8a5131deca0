"""What a vendor is: how it is asked to send, what it answers, and how it reports.

An instance belongs to one account. All threads of a process share it, so it is never changed after
it was made. It does no I/O: `client` sends its requests, and the HTTP API takes its reports.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Literal, Protocol

from smsq_worker.domain.states import Outcome
from smsq_worker.infra.http import Request as Request  # noqa: PLC0414 - part of what a vendor writes

Taken = Literal["taken", "malformed", "refused", "no_room"]
"""What became of a request with reports: all are safe; some were none (the good ones are kept);
its signature is wrong; there is no room for it now."""


@dataclass(frozen=True, slots=True)
class VendorOptions:
    """What an account says of its vendor."""

    url: str
    """Where the gateway is; "" for where the vendor has it."""
    secret: str = field(repr=False)
    description: Path | None = None
    """The file that describes a vendor without Python."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """What else a vendor wants to know of an account; nothing of it is secret."""


@dataclass(frozen=True, slots=True)
class GatewayResult:
    """The result of one submission."""

    outcome: Outcome
    detail: str
    """A word or two for the operator; for a refusal it begins with the message's reason."""
    mid: str = ""
    retry_after_s: float = 0
    connected: bool = True
    """False where no connection came about, so that an immediate second try is harmless."""
    too_fast: bool = False
    """The gateway asks for fewer requests."""
    trouble: bool = False
    """The gateway was unreachable or did not behave like one: a sign of an outage."""
    odd: str = ""
    """What was odd about an answer that was understood all the same."""
    scope: str = ""
    """Of a refusal: where its cause lies, as in domain/codes.py; "" where that is not clear."""


class Unfit(Exception):  # noqa: N818
    """A message cannot be put into a request of this vendor, and never will be.

    Its text says what is wrong, without numbers and codes.
    """


class WrongSignature(Exception):  # noqa: N818
    """A request with reports is not the vendor's."""


@dataclass(frozen=True, slots=True)
class ReportRequest:
    """An HTTP request to the address for reports."""

    method: str
    url: str
    """Complete, with the query, as the vendor called it; a proxy in between may have changed it."""
    headers: Mapping[str, str]
    """Their names in small letters."""
    query: bytes
    body: bytes


@dataclass(frozen=True, slots=True)
class Reports:
    """What a request held."""

    good: tuple[tuple[str, str], ...]
    """(mid, stat as it came); a mid as of `mids.clean_mid`."""
    bad: int
    """The number of items that were no reports."""


@dataclass(frozen=True, slots=True)
class ReportAnswer:
    """What the vendor is answered."""

    status: int
    content_type: str
    body: bytes


class Vendor(Protocol):
    """One account's vendor."""

    @property
    def url(self) -> str:
        """Return where the gateway is: requests go to this scheme, host and port."""

    @property
    def codes(self) -> Sequence[Traversable]:
        """Return the files of its catalogue, as `Catalogue.load` takes them."""

    def request(self, phone: str, template: str, code: str) -> Request:
        """Return the request that asks once to send an SMS. Raises Unfit."""

    def understand(
        self,
        status: int,
        headers: Mapping[str, str],
        body: bytes,
        private: Sequence[str] = (),
        *,
        trouble: str = "",
    ) -> GatewayResult:
        """Return what an answer, whatever it holds, means for the attempt. Never raises.

        `private` are texts to mask where the vendor echoes them; `trouble` names what went wrong
        while the body was read, in which case `body` is what had come by then. A mid is one of
        `mids.clean_mid`, or "" with outcome accepted and detail "no usable mid".
        """

    @property
    def reports_need(self) -> str:
        """Return what of the account is missing here to check reports; "" if nothing is."""

    def read_reports(self, request: ReportRequest) -> Reports:
        """Return the reports in a request, whatever it holds. Raises WrongSignature, no other."""

    def report_answer(self, taken: Taken) -> ReportAnswer:
        """Return what the vendor expects to be answered."""
