"""All knowledge of the vendor: its request, its answers, its reports, its errors.

`client` submits a message, `response` understands what comes back, `delivery_report` reads reports.
The codes in reports are data, in `smsq_worker.domain.codes`.
"""
