"""The Django app: it configures smsq when Django starts."""

from __future__ import annotations

import logging
import os
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core import checks
from django.core.signals import setting_changed

from smsq import configuring
from smsq.contrib.django import host_settings
from smsq.errors import SettingsError

log = logging.getLogger(__name__)


class SmsqConfig(AppConfig):
    """`SMSQ = {...}` of Django's settings."""

    name = "smsq.contrib.django"
    label = "smsq"
    verbose_name = "smsq"

    def ready(self) -> None:
        """Configure smsq. Raises SettingsError where the process is configured otherwise.

        Bad settings are logged here, as servers run no checks, and raise at the first use: the
        environment never takes their place. `manage.py check` tells them one by one.
        """
        checks.register(host_settings.check, "smsq")
        setting_changed.connect(_refuse_change, dispatch_uid="smsq")
        configuration, _ = host_settings.read(getattr(settings, "SMSQ", None))
        configuring.adopt(configuration)
        try:
            configuration.load(os.environ)
        except SettingsError as error:
            log.error("no SMS can be sent: %s", "; ".join(error.problems))  # noqa: TRY400


def _refuse_change(*, setting: str, value: object, enter: bool, **_: Any) -> None:
    """Refuse `override_settings(SMSQ=...)`, which would change nothing without a word."""
    if setting == "SMSQ" and enter:
        configuration, _ = host_settings.read(value)
        try:
            configuration.load(os.environ)
            configuring.adopt(configuration)
        except SettingsError as error:
            hint = "in tests, smsq.testing.outbox() takes the place of the ledger"
            raise SettingsError([*error.problems, hint]) from None
