"""How an otp fares beside a million messages, and how everything goes on after a failure.

    make bench ONLY=scale
    make bench ONLY=scale SIZE=0.05 WINDOW=15 SCALE_ONLY=queued,outage SHAPES=batches
    make bench ONLY=scale SIZE=0.05 RELEASE=0.2.0

Every scenario has a server of its own, fills the ledger, and lets workers work at 50 calls a second
while a producer in a process of its own calls `delay()` for an otp every quarter of a second.

| scenario | what |
| --- | --- |
| quiet | a little bulk, and nothing else: what the machine itself makes of it |
| queued | 1,000,000 bulk messages wait, in each of SHAPES |
| scheduled | 1,000,000 with the same send_at; otps scheduled 2 s ahead and refused once meanwhile |
| unreported | 800,000 accepted messages whose reports are given up at one moment |
| reports | 200,000 reports posted to the API as fast as it takes them |
| restart | the server is stopped and started with an append-only file of 750 MB |
| crowd | 20 workers (CROWD), which can hold all that is queued |
| outage | ten minutes (divided by SCALE) with 100,000 queued, in each of SHAPES |
| cancel | 1,000,000 of one campaign, which is cancelled while it is sent, and swept |

SIZE scales all counts, and the file's size. WINDOW is half of what is measured. RELEASE runs all
processes with the code of an earlier release.

How it is filled: batches by `send_many`; single messages by the entry's own act in slices, with
copies of a real wake-up, because `delay()` would take 1 ms for each; what is accepted by copies of
a message that was really sent, made inside the server. From delay() to call is measured from
before the call of `delay()` to the kernel's receipt of the request at the gateway; an otp that
never arrived counts as infinitely late.

| column | what |
| --- | --- |
| never | otps that were taken and not called within 10 s of the end |
| memory, rss | the most that Redis counted, and that its process held |
| redis, workers | processor time, of one core |
| wake-ups | all that ever were in the lanes' queues; a call that failed is due another |
| again | of these, those that neither the filling nor `delay()` published |
| at once | the most that lay in the queues |
| named | messages that the queues name at the end, each time counted / counted once |
"""
