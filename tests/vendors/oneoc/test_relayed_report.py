"""The report for our relay's callers: it says what is known, in words that the vendor uses."""

from __future__ import annotations

import json

import pytest

from smsq.contract import FINAL, State
from smsq_worker.domain.codes import Catalogue
from smsq_worker.vendors.oneoc.delivery_report import read
from smsq_worker.vendors.oneoc.relayed_report import vendor_notice


@pytest.mark.parametrize(
    ("state", "stat", "reason", "told"),
    [
        ("delivered", "DELIVRD", None, "DELIVRD"),
        pytest.param("delivered", "MO:200", None, "DELIVRD", id="whatever code told so"),
        ("failed", "MA:0001", "report:MA:0001", "MA:0001"),
        ("failed", None, "gateway:400", "REJECTED"),
        ("failed", None, "local:suppressed", "REJECTED"),
        pytest.param("failed", "MO:0254", "local:resends", "MO:0254", id="resends used up"),
        pytest.param("failed", "MO:0254", "gateway:400", "MO:0254", id="the resend refused"),
        pytest.param("failed", "ACCEPTD", "report:MO:0254", "MO:0254", id="a later word"),
        ("expired", None, None, "EXPIRED"),
        pytest.param("expired", "MA:0015", None, "MA:0015", id="expired after a report"),
        ("unreported", None, None, "UNKNOWN"),
        pytest.param("unreported", "ACCEPTD", None, "UNKNOWN", id="not final upstream"),
        pytest.param("unreported", "XA:0001", None, "XA:0001", id="a code that nobody knows"),
    ],
)
def test_a_report_says_what_is_known(
    state: str, stat: str | None, reason: str | None, told: str
) -> None:
    body = vendor_notice("m-1", State(state), stat, reason)
    assert body == f'{{"mid":"m-1","stat":"{told}"}}'.encode()


@pytest.mark.parametrize(
    ("state", "stat", "reason", "raw", "told"),
    [
        ("failed", "REJECTED", "report:REJECTED", "REJECTD", "REJECTD"),
        ("failed", "MK:0001", "report:MK:0001", "mk:0001", "mk:0001"),
        ("unreported", "XA:0001", None, "xa1", "xa1"),
        pytest.param("delivered", "DELIVRD", None, "delivered", "DELIVRD", id="as promised"),
        pytest.param("failed", "MA:0001", "report:MO:0254", "ma1", "MO:0254", id="another code's"),
        pytest.param("failed", "MA:0001", "report:MA:0001", "MA:0002", "MA:0001", id="stale"),
    ],
)
def test_a_code_is_passed_on_as_the_gateway_wrote_it(
    state: str, stat: str, reason: str | None, raw: str, told: str
) -> None:
    body = vendor_notice("m-1", State(state), stat, reason, raw)
    assert json.loads(body or b"")["stat"] == told


@pytest.mark.parametrize("state", [state for state in State if state not in FINAL])
def test_there_is_no_report_before_the_end(state: State) -> None:
    assert vendor_notice("m-1", state, "MO:0254") is None


def test_a_duplicates_caller_has_the_first_ones_id_and_report() -> None:
    assert vendor_notice("m-1", State.DUPLICATE, None, "duplicate:m-0") is None


@pytest.mark.parametrize("state", sorted(FINAL - {State.DUPLICATE}))
def test_we_understand_our_own_reports(state: State) -> None:
    body = vendor_notice("3f2a", state, None)
    assert body
    ((mid, stat),) = read("application/json", body).good
    assert (mid, stat) == ("3f2a", json.loads(body)["stat"])
    assert Catalogue.load().get(stat)
