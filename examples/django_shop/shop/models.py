"""An order, and the SMS that confirms it."""

from __future__ import annotations

import secrets
from datetime import datetime, timedelta
from typing import Any

from django.db import models
from django.utils import timezone


def pickup_code() -> str:
    """Return six digits."""
    return f"{secrets.randbelow(10**6):06}"


class Order(models.Model):
    """A customer's order."""

    phone: models.CharField[str, str] = models.CharField(max_length=20)
    code: models.CharField[str, str] = models.CharField(max_length=6, default=pickup_code)
    sms_id: models.CharField[str, str] = models.CharField(max_length=36)
    created_at: models.DateTimeField[datetime, datetime] = models.DateTimeField(auto_now_add=True)

    def sms(self) -> dict[str, Any]:
        """Return the arguments of its SMS."""
        return {"phone": self.phone, "template": "SMS_2001", "code": self.code}

    @classmethod
    def recent(cls) -> models.QuerySet[Order]:
        """Return the orders whose SMS is still of use."""
        return cls.objects.filter(created_at__gt=timezone.now() - timedelta(hours=12))
