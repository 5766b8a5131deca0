"""The vendor `http`: any HTTP gateway, described in a TOML file.

`description` reads the file, all mistakes at once; `template`, `pointer` and `pattern` are what it
is written in. `vendor` is made of it: `outgoing` asks, `answer` understands, `reports` and
`signature` take reports. docs/guides/vendors.md explains the file.
"""
