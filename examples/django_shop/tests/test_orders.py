"""The shop's tests: no Redis, no worker."""

import pytest
from django.core.management import call_command
from django.test import Client, TestCase

from smsq.testing import Outbox, outbox

PHONE = "13800138000"


class Orders(TestCase):
    """With Django's TestCase, whose transaction never commits."""

    def setUp(self) -> None:
        self.box = self.enterContext(outbox())

    def test_an_order_is_confirmed_by_sms(self) -> None:
        with self.captureOnCommitCallbacks(execute=True):
            order = self.client.post("/orders/", {"phone": PHONE}).json()
        (sms,) = self.box
        assert (sms.phone, sms.template, len(sms.code)) == (PHONE, "SMS_2001", 6)
        self.box.deliver(sms.id)
        shown = self.client.get(f"/orders/{order['id']}/").json()
        assert shown["sms"] == "delivered"

    def test_no_order_is_taken_for_what_is_no_number(self) -> None:
        with self.captureOnCommitCallbacks(execute=True):
            answer = self.client.post("/orders/", {"phone": "12"})
        assert answer.status_code == 400
        assert len(self.box) == 0


@pytest.mark.django_db(transaction=True)
def test_an_order_is_taken_while_redis_is_away_and_its_sms_sent_later(
    smsq_outbox: Outbox, client: Client
) -> None:
    """With pytest-django's fixtures, and transactions that commit."""
    smsq_outbox.unavailable()
    assert client.post("/orders/", {"phone": PHONE}).status_code == 201
    assert len(smsq_outbox) == 0
    for _ in range(2):
        call_command("resend_sms")
    assert [sms.phone for sms in smsq_outbox] == [PHONE]
