"""The vendor `1oc`: the gateway that smsq was made for, and the default.

`request` and `response` are the calls, `delivery_report` its reports, `codes.toml` their meaning.
`relay_request` and `relayed_report` are its own side, for the relay that stands in for it.
"""
