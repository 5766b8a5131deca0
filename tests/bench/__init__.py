"""What the rate, lanes and pauses come to in figures, as the gateway sees it.

    make bench
    make bench ONLY=rate RATES=20,200 WORKERS=1,8
    make bench ONLY=accounts    # two of them, of which the first fails
    make bench ONLY=peers CHART=1    # beside other queues; writes README's table and picture
    make bench ONLY=life,lone,fleet,watched    # see bench/against/__init__.py
    make bench ONLY=secret,balance SHAPES=batches RELEASE=0.2.0
    make bench ONLY=attack WINDOW=15    # see bench/attack/__init__.py
    make bench ONLY=scale SIZE=0.05 SCALE_ONLY=queued,outage    # see bench/scale/__init__.py

Every scenario runs real workers against a gateway that only notes when which call came, and ends
with a table and what was not as promised.
"""
