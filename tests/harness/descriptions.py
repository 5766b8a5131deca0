"""Parts of descriptions of vendors."""

from __future__ import annotations

from collections.abc import Callable

from smsq_worker.vendors.http.vendor import HttpVendor

Made = Callable[..., HttpVendor]

URL = "https://sms.example.com"
REQUEST = f"""
[request]
method = "POST"
url = "{URL}/send"
form = {{ to = "{{phone}}" }}
"""
ANSWER = """
[answer]
code = "/code"
mid = "/data/0/id"
words = "/msg"
accepted = [0]
"""
