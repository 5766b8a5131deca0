"""All knowledge of vendors: their requests, their answers, their reports, their errors.

`vendor` says what a vendor is, `registry` finds one by name, `client` submits messages by it. A
folder each has one: `oneoc` is the default. This package must import without any extra:
`smsq.testing` reads a catalogue that lies in it.
"""

from smsq_worker.vendors.registry import find as find
