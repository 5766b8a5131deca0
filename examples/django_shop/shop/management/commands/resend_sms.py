"""Send what a commit was not followed by: Redis was away, or the process died. For cron."""

from typing import Any

from django.core.management.base import BaseCommand

from shop.models import Order
from smsq import send_sms, status


class Command(BaseCommand):
    """`manage.py resend_sms`."""

    help = "Send the SMS of recent orders whose SMS the ledger does not have."

    def handle(self, *args: Any, **options: Any) -> None:
        """Send them by their ids, so that none is sent twice, whoever sends at the same time."""
        for order in Order.recent():
            if status(order.sms_id) is None:
                send_sms.apply_async(kwargs=order.sms(), task_id=order.sms_id)
                self.stdout.write(f"order {order.pk}")
