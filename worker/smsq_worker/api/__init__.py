"""The HTTP API (`smsq serve`): reports and relayed messages in, status out, health, metrics.

Described at /openapi.json. Reports come unsigned from outside: every byte is hostile, and the token
in the URL is the only secret.
"""
