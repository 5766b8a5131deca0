"""What this tree costs beside an earlier release (AGAINST, 0.2.0), in turns.

    make bench ONLY=life,lone,fleet,watched
    make bench ONLY=lone ROUNDS=2 CALLS=300

| scenario | what |
| --- | --- |
| life | what a message costs Redis, from delay() to accepted and on to delivered, with its report |
| lone | an otp that comes alone, and one that comes beside a full lane of bulk |
| fleet | four workers that share 200 calls a second |
| watched | a worker with Flower beside one without, both of this tree |
"""
