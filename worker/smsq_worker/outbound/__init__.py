"""Telling outcomes over HTTP: `post` asks, `guard` says where a receiver may be, `webhook` signs.

Nothing here knows the vendor or the ledger.
"""
