"""Tests of a backend that sends SMS, without Redis and without a worker.

>>> from smsq import send_sms, status
>>> from smsq.testing import outbox
>>> with outbox() as box:
...     result = send_sms.delay("13800138000", "SMS_1001", "482913", lane="otp")
...     box.deliver(result)
...     box[0].code, status(result.id).state
('482913', 'delivered')
"""

from smsq.memory.rules import Rules
from smsq.testing.box import Outbox, outbox
from smsq.testing.ledger import SentMessage

__all__ = ["Outbox", "Rules", "SentMessage", "outbox"]
