"""What is known, for people: a snapshot of the whole; the timeline and forecast of a message."""
