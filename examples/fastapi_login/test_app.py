"""The app's tests: no Redis, no worker, no secrets."""

from collections.abc import AsyncIterator

import pytest
from app import app
from httpx import ASGITransport, AsyncClient

from smsq.testing import Outbox

PHONE = "13800138000"
pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def browser() -> AsyncIterator[AsyncClient]:
    async with new_browser() as browser:
        yield browser


def new_browser() -> AsyncClient:
    return AsyncClient(transport=ASGITransport(app), base_url="https://shop.example")


async def begin(browser: AsyncClient) -> int:
    return (await browser.post("/login", json={"phone": PHONE})).status_code


async def enter(browser: AsyncClient, code: str) -> int:
    return (await browser.post("/login/code", json={"code": code})).status_code


def wrong(code: str) -> str:
    return f"{(int(code) + 1) % 10**6:06}"


async def test_a_person_logs_in_with_the_code(browser: AsyncClient, smsq_outbox: Outbox) -> None:
    assert (await browser.get("/me")).status_code == 401
    assert await begin(browser) == 202
    (sms,) = smsq_outbox
    assert (sms.phone, sms.template, sms.lane) == (PHONE, "SMS_LOGIN", "otp")
    assert await enter(browser, sms.code) == 200
    assert (await browser.get("/me")).json() == {"phone": PHONE}
    assert [sms.template for sms in smsq_outbox] == ["SMS_LOGIN", "SMS_NEW_DEVICE"]


async def test_a_second_click_sends_nothing(browser: AsyncClient, smsq_outbox: Outbox) -> None:
    assert [await begin(browser) for _ in range(3)] == [202] * 3
    assert len(smsq_outbox) == 1
    smsq_outbox.advance(60)
    await begin(browser)
    assert len(smsq_outbox) == 2


async def test_the_page_learns_that_the_sms_failed(
    browser: AsyncClient, smsq_outbox: Outbox
) -> None:
    assert (await browser.get("/login")).json() == {"state": None}
    await begin(browser)
    smsq_outbox.fail(smsq_outbox[0], "MA:0001")
    assert (await browser.get("/login")).json() == {"state": "failed"}


async def test_wrong_codes_have_an_end(browser: AsyncClient, smsq_outbox: Outbox) -> None:
    await begin(browser)
    (sms,) = smsq_outbox
    assert [await enter(browser, wrong(sms.code)) for _ in range(5)] == [403] * 5
    assert await enter(browser, sms.code) == 403
    again = await browser.post("/login", json={"phone": PHONE})
    assert (again.status_code, "Retry-After" in again.headers) == (429, True)


async def test_a_stranger_does_not_lock_out_a_known_device(
    browser: AsyncClient, smsq_outbox: Outbox
) -> None:
    await begin(browser)
    await enter(browser, smsq_outbox[0].code)
    async with new_browser() as stranger:
        for _ in range(4):
            smsq_outbox.advance(60)
            await begin(stranger)
            for _ in range(5):
                await enter(stranger, wrong(smsq_outbox[-1].code))
        assert await begin(stranger) == 429
    assert await begin(browser) == 202
    assert await enter(browser, smsq_outbox[-1].code) == 200


async def test_a_bad_number_is_named(browser: AsyncClient, smsq_outbox: Outbox) -> None:
    answer = await browser.post("/login", json={"phone": "12"})
    assert answer.status_code == 422
    assert "phone must be" in answer.json()["detail"]
    assert len(smsq_outbox) == 0


async def test_while_redis_is_away_the_caller_is_asked_again(
    browser: AsyncClient, smsq_outbox: Outbox
) -> None:
    smsq_outbox.unavailable()
    assert await begin(browser) == 503
    assert await begin(browser) == 202
