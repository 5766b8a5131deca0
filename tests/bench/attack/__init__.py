"""The HTTP API while someone without a secret, or with a leaked report address, sends it bytes.

    make bench ONLY=attack WINDOW=15

An attacker at 127.0.0.1 does one thing over 200 connections, and connects again whenever the API
closes one. Meanwhile the gateway, at 127.0.0.2, sends 1000 reports, and a monitor at 127.0.0.3 asks
for /healthz. The attacker is a process of its own and as fast as it can be.
"""
