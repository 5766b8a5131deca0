"""What is known, for people: a snapshot of all of smsq; the timeline and forecast of a message."""
