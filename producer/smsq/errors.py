"""Every error smsq raises on purpose.

SmsqError
├── InvalidMessage      (ValueError) an argument of send_sms breaks a rule; nothing was enqueued
│   └── KeyConflict     its key stands for another number or template; nothing was enqueued
├── CampaignCancelled   an operator has cancelled its campaign; nothing was enqueued
├── NoResult            (NotImplementedError) Celery's results have it, and a SendResult does not
├── NotDelivered        (results.py) a message ended, and is not known to be delivered
├── ResultTimeout       (results.py; Celery's TimeoutError) get() waited in vain; nothing stopped
├── SettingsError       (ValueError) the environment or a file of settings is wrong
└── LedgerUnavailable   Redis did not answer in time; a message may or may not be enqueued
    └── LedgerFull      Redis is at its memory limit; nothing was enqueued

No text of these carries a phone number, a code or a secret.
"""

from __future__ import annotations

from collections.abc import Sequence


class SmsqError(Exception):
    """What all errors have in common that smsq raises on purpose."""


class InvalidMessage(SmsqError, ValueError):  # noqa: N818 - the contract's name
    """A message breaks a rule of the contract; the text says which, and what is allowed."""

    index: int | None = None
    """Of send_many: which row, counted from 0."""
    enqueued: int = 0
    """Of send_many: how many rows before it were enqueued."""


class KeyConflict(InvalidMessage):
    """A message's key was taken for another number or template, so it is not a repetition."""

    holder: str = ""
    """Id of the message that has the key."""


class CampaignCancelled(SmsqError):  # noqa: N818 - says what is so
    """A message names a campaign that was cancelled: send it in another one, or in none."""

    campaign: str = ""
    """Its name."""
    enqueued: int = 0
    """Of send_many: how many rows before it were enqueued."""


class NoResult(SmsqError, NotImplementedError):  # noqa: N818 - says what is so
    """Celery keeps no results of smsq's tasks; the text says what to use instead."""


class SettingsError(SmsqError, ValueError):
    """One or more settings are missing or wrong; `problems` has a line for each."""

    problems: tuple[str, ...]

    def __init__(self, problems: Sequence[str] | str) -> None:
        """Take the lines, or the text of them that pickle, copy and Celery give back."""
        lines = problems.split("\n") if isinstance(problems, str) else problems
        self.problems = tuple(lines)
        super().__init__("\n".join(self.problems))


class LedgerUnavailable(SmsqError):  # noqa: N818 - says what is so
    """Redis did not answer in time: call again, with the same `key`, and nothing is sent twice.

    The text says whether the message may be in, or certainly is not.
    """

    enqueued: int = 0
    """Of send_many: how many rows are enqueued for certain."""


class LedgerFull(LedgerUnavailable):
    """Redis is at its maxmemory and takes no message: call again when there is room."""
