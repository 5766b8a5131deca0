"""Delivery reports, from the inbox to the message that they end."""
