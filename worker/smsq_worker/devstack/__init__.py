"""Everything on one machine, for `smsq up` and `smsq demo`."""
