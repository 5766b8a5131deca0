"""The producer's side of smsq: what a backend imports."""
