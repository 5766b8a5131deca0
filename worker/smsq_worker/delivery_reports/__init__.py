"""Delivery reports: kept safe when they come (inbox), applied to their messages (reconciler)."""
