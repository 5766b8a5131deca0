"""What is known, for people: the snapshot, a timeline, a forecast."""
