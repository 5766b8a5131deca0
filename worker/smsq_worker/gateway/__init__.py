"""All knowledge of the vendor: its request, its answers, its reports, its errors.

`client` makes the call, `answer` understands what came back, `report` reads delivery reports.
The codes in reports are data, in `smsq_worker.domain.codes`.
"""
