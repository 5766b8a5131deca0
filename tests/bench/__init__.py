"""What the rate, lanes and pauses come to in figures, as the gateway sees it.

    make bench
    make bench ONLY=rate RATES=20,200 WORKERS=1,8
    make bench ONLY=peers

Every scenario runs real workers against a gateway that only notes when which call came, and ends
with a table and what was not as promised.
"""
