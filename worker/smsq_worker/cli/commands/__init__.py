"""The commands: one module each, imported when the command is named."""

from typing import Final

COMMANDS: Final = {
    "demo": "Send messages of all kinds through a complete stack, and check each outcome.",
    "up": "Run everything on this machine until Ctrl-C.",
    "worker": "Start a Celery worker; takes Celery's own options.",
    "serve": "Serve the HTTP API: reports in, status out.",
    "sandbox": "Run a gateway that behaves like the vendor's, and sends no SMS.",
    "flower": "Start Flower with smsq's settings; takes Flower's own options.",
    "send": "Enqueue one message.",
    "send-file": "Enqueue the messages of a file, CSV or JSON Lines.",
    "status": "Show an overview, or what is known of one message.",
    "explain": "Show what happened to a message, by id, mid, number and more, and what is next.",
    "cancel": "Cancel messages: none of them is sent from the answer on.",
    "list": "List messages by state, reason, template, time and more.",
    "count": "Count messages by state, reason, template, hour and more.",
    "report": "Show what became of a day's messages: sent, delivered, failed, in doubt.",
    "redo": "Send again what certainly did not arrive, each message once.",
    "accounts": "Show each account: its state, rate, what is under way, pauses, and the routes.",
    "rate": "Show or set the rate of requests, of all workers together.",
    "pause": "Pause sending: all of it, one account, or one template.",
    "resume": "Resume sending after a pause, whatever its cause.",
    "campaign": "List campaigns; show, pause, resume, cancel one, set its rate.",
    "suppressed": "List the numbers to which nothing is sent; add, remove, import, export.",
    "held": "List messages in doubt; resend or drop them.",
    "parked": "List reports that match no message.",
    "notices": "List callbacks that their endpoint did not accept; replay or drop them.",
    "audit": "List what operators did.",
    "codes": "List the stat codes, or explain one.",
    "functions": "List the functions that producers call in Redis; load or drop them.",
    "completion": "Print the script by which a shell completes commands and options.",
    "doctor": "Check the installation, and show what to change.",
}
"""Each command's summary, in the order of `smsq --help`."""
