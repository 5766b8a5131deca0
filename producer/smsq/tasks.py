"""`send_sms` as a backend sees it: validate, write the ledger entry, publish a wake-up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial, wraps
from typing import Any, Final

from celery import Signature, Task

from smsq import ledgers
from smsq.app import app
from smsq.contract import (
    SEND_SMS,
    LaneName,
    Message,
    OnAmbiguousName,
    parse,
    parse_named,
    signature_of_send_sms,
)
from smsq.eager import hint_if_eager
from smsq.entries import NO_ORIGIN, Entered, Origin
from smsq.errors import InvalidMessage, LedgerUnavailable
from smsq.ids import new_id, parse_id
from smsq.results import SendResult

NOT_SENT: Final = (
    "of send_sms only delay(...) and apply_async(...) enqueue a message, also in tests, where "
    "smsq.testing.outbox() takes the place of Redis; for many at once there is send_many(...)"
)

OF_A_CANVAS: Final = frozenset({"chain", "chord", "group_id"})
"""What Celery adds to the options of a part of one."""
NO_CANVAS: Final = (
    "send_sms takes no part in a chain, group or chord, is no link and goes with no other task, as "
    "workers of your own app do not know it: call delay(...) for each message, in a task of yours "
    "if need be; for many at once there is send_many(...)"
)


@wraps(signature_of_send_sms)
def _refuse(*_: Any, **__: Any) -> Any:
    """Refuse: the task runs in a worker, and here a message would be lost in silence."""
    raise InvalidMessage(NOT_SENT)


class _Alone(Signature):
    """A signature of `send_sms`, which is of use in this process alone.

    What goes with another task to a worker of the host, as a later part of a chain or a link, is
    dropped there, as that worker knows no such task. So it is refused here: Celery freezes each
    part of a chain, group or chord before it publishes the first, and JSON takes the items of all
    that goes with a task.
    """

    def clone(self, *args: Any, **options: Any) -> Any:
        """Return a copy, which is refused as well."""
        copy: Any = super().clone(*args, **options)
        copy.__class__ = _Alone
        return copy

    partial = clone

    def __deepcopy__(self, _: Any) -> Any:
        """Copy, when the task that it is linked to is copied. Celery's own would return a dict."""
        return self.clone()

    def __reduce__(self) -> tuple[Any, ...]:
        """Stay a signature of `send_sms`, also where a process of this host's gets it pickled."""
        names = ("args", "kwargs", "options", "immutable")
        return _signature_again, tuple(self[name] for name in names)

    def _refuse_part(self, *_: Any, **__: Any) -> Any:
        raise InvalidMessage(NO_CANVAS)

    freeze = items = _refuse_part


class SendSms(Task):  # type: ignore[type-arg]
    """Enqueue an SMS with `.delay(phone, template, code, ...)`.

    The message is in the ledger when `.delay()` returns. The Celery message written with it, or
    published after that where the broker is another Redis, only wakes a worker up and carries no
    more than the id; if publishing it fails, a worker publishes it again. The task itself runs in
    `smsq_worker`, never here.
    """

    # A mere look at `send_sms` binds it: pytest's at a test module that imports it, for one. Celery
    # would read the configuration then, and with it an environment that no fixture has set yet.
    from_config = ()
    serializer = "json"
    ignore_result = True

    @classmethod
    def annotate(cls) -> None:
        """Take no annotations: they are in the configuration, too."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Be the same task in another process; Celery would look for it in the host's app."""
        return _task, ()

    def delay(
        self,
        phone: str,
        template: str,
        code: str = "",
        *,
        lane: LaneName = "notice",
        ttl_s: float | None = None,
        key: str | None = None,
        on_ambiguous: OnAmbiguousName | None = None,
        send_at: datetime | str | float | None = None,
        reference: str | None = None,
        notify: str | None = None,
        campaign: str | None = None,
    ) -> SendResult:
        """Enqueue an SMS, and return a result that answers for it.

        Args:
            phone: Mainland China mobile number of 11 digits; spaces, hyphens, and +86, 0086 or 86
                in front are removed.
            template: The gateway's template, 1 to 64 characters.
            code: Value of the template's variable, at most 500 characters, by default empty; a str,
                as an int would lose leading zeros.
            lane: Order of service and defaults: "otp" before "notice" (the default) before "bulk".
            ttl_s: Seconds for which sending is still useful, from `send_at` or from now, at most
                366 days; by default 300 in lane otp and 86,400 in the others.
            key: Idempotency key, 1 to 256 characters: within 24 h a second message with it is not
                sent, and the result's `duplicate_of` is the id of the first. By default none.
            on_ambiguous: What becomes of a message that may or may not have reached the gateway:
                "resend" (the default) may double it, "hold" leaves it to an operator.
            send_at: Not before: an aware datetime, an ISO 8601 text with an offset or Unix seconds,
                at most 366 days ahead; by default now.
            reference: Your own text, at most 128 characters, returned in the status and in
                callbacks; by default none. It is shown everywhere: no phone numbers.
            notify: Name of a Celery task of yours that receives the callback; by default none.
            campaign: Name of the campaign that it belongs to, for `smsq campaign`; by default none.

        Raises InvalidMessage where an argument breaks a rule, KeyConflict where the `key` was taken
        for another number or template, and CampaignCancelled where its `campaign` was cancelled;
        nothing is enqueued then. Raises LedgerUnavailable where Redis did not answer in time
        (SMSQ_ENQUEUE_TIMEOUT_S, for all of this): the message may be in, unless the text says that
        nothing was entered, so call again with the same `key`. Raises SettingsError for a bad
        setting.
        """
        return _sent(SendResult(new_id()), parse_named(locals()))

    async def adelay(
        self,
        phone: str,
        template: str,
        code: str = "",
        *,
        lane: LaneName = "notice",
        ttl_s: float | None = None,
        key: str | None = None,
        on_ambiguous: OnAmbiguousName | None = None,
        send_at: datetime | str | float | None = None,
        reference: str | None = None,
        notify: str | None = None,
        campaign: str | None = None,
    ) -> SendResult:
        """Enqueue an SMS as `delay` does; the event loop goes on meanwhile.

        If its task is cancelled, the message may or may not be in, as after LedgerUnavailable: call
        again with the same `key`.
        """
        return await _asent(SendResult(new_id()), parse_named(locals()))

    def apply_async(  # type: ignore[override]
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        task_id: str | None = None,
        **options: Any,
    ) -> SendResult:
        """Enqueue as `delay` does, with an id of the caller's choice.

        A second call with the same `task_id` changes nothing, and raises KeyConflict where the
        phone or the template is another. It is a str of 1 to 255 printable characters, and shown
        everywhere, so it must hold no number. Celery's other options are refused: `lane` chooses
        the queue, `send_at` the time, `ttl_s` the end.
        """
        refused = sorted(name for name, value in options.items() if value is not None)
        if not OF_A_CANVAS.isdisjoint(refused):
            raise InvalidMessage(NO_CANVAS)
        if refused:
            raise InvalidMessage(
                f"send_sms takes no option {', '.join(refused)}: lane chooses the queue, "
                "send_at the time, ttl_s the end; only task_id is taken"
            )
        message = parse(args or (), kwargs or {})
        return _sent(SendResult(new_id() if task_id is None else parse_id(task_id)), message)

    def delay_on_commit(
        self,
        phone: str,
        template: str,
        code: str = "",
        *,
        lane: LaneName = "notice",
        ttl_s: float | None = None,
        key: str | None = None,
        on_ambiguous: OnAmbiguousName | None = None,
        send_at: datetime | str | float | None = None,
        reference: str | None = None,
        notify: str | None = None,
        campaign: str | None = None,
        using: str | None = None,
    ) -> SendResult:
        """Enqueue an SMS as `delay` does, after Django's transaction commits; never if it does not.

        The result's `id` is the message's at once, so that a row of that transaction can hold it;
        `duplicate_of` is set after the commit, from which `ttl_s` counts. Without an open
        transaction the message is enqueued at once.

        Args:
            using: Name of the database whose commit is waited for, where not Django's default.

        Raises InvalidMessage and SettingsError at once. What else `delay` raises leaves the
        `atomic` block, whose transaction has committed then. A process that dies just after the
        commit has enqueued nothing: `apply_async(..., task_id=result.id)` may be repeated until it
        gets through.
        """
        message = parse_named(locals())
        from smsq.contrib.django.commit import after_commit

        ledgers.current()  # bad settings are reported while the transaction can be rolled back
        result = SendResult(new_id())
        after_commit(partial(_send_committed, result, message), using)
        return result

    def signature(self, args: Any = None, *starargs: Any, **starkwargs: Any) -> _Alone:
        """Return a signature whose `delay` and `apply_async` do as the task's own."""
        return _Alone(self, args, *starargs, **{"app": self.app, **starkwargs})

    subtask = signature

    # A worker would run the last three without an id for each message.
    __call__ = apply = map = starmap = chunks = _refuse

    def AsyncResult(self, task_id: str, **_: Any) -> SendResult:  # noqa: N802 - Celery's name
        """Return the result of a message that was enqueued before, maybe by another process.

        Whether there is such a message is not asked. Raises InvalidMessage for what is no id.
        """
        return SendResult(parse_id(task_id))


def _sent(result: SendResult, message: Message) -> SendResult:
    """Enqueue a message with a result's id; return the result."""
    try:
        result.duplicate_of = enqueue(result.id, message).duplicate_of
    except LedgerUnavailable as error:
        hint_if_eager(error)
        raise
    return result


async def _asent(result: SendResult, message: Message) -> SendResult:
    try:
        entered = await ledgers.ado(ledgers.current().entering(result.id, message))
        result.duplicate_of = entered.duplicate_of
    except LedgerUnavailable as error:
        hint_if_eager(error)
        raise
    return result


def _send_committed(result: SendResult, message: Message) -> None:
    try:
        _sent(result, message)
    except LedgerUnavailable as error:
        error.add_note(
            f"The transaction has committed: call apply_async(..., task_id={result.id!r}) with "
            "the same arguments until it gets through."
        )
        raise


def enqueue(message_id: str, message: Message, origin: Origin = NO_ORIGIN) -> Entered:
    """Write a message to the ledger, with its wake-up; return what the ledger made of it.

    All of it ends within SMSQ_ENQUEUE_TIMEOUT_S. Raises LedgerUnavailable and KeyConflict.
    """
    return ledgers.do(ledgers.current().entering(message_id, message, origin))


# Lazy: the task, and with it the environment, is looked at when it is first used.
send_sms: SendSms = app.task(name=SEND_SMS, base=SendSms, shared=False)(_refuse)


def _task() -> SendSms:
    return send_sms


def _signature_again(
    args: Sequence[Any], kwargs: Mapping[str, Any], options: Mapping[str, Any], immutable: bool
) -> _Alone:
    return send_sms.signature(args, kwargs, options, immutable=immutable)
