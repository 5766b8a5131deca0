"""The HTTP API (`smsq serve`): reports and relayed messages in, status out, health, metrics.

Described at /openapi.json. Reports come unsigned from outside, so every byte is hostile.
"""
