"""Running the parts of smsq as processes of one machine: `smsq up`, `smsq demo`."""
