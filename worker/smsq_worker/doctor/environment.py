"""The environment: variables that look like settings and are none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from smsq.settings import unknown
from smsq_worker.config.settings import Settings
from smsq_worker.doctor.finding import Finding, ok, warning
from smsq_worker.i18n import _


def check(environ: Mapping[str, str]) -> Iterator[Finding]:
    """Name what is ignored. What resembles a setting is refused before this is asked."""
    names = ", ".join(unknown(Settings, environ))
    if not names:
        yield ok(_("every SMSQ_ variable is a setting"))
        return
    yield warning(
        _("ignored, as no setting of this release: {names}", names=names),
        _("correct the name, or remove it: docs/reference/settings.md lists all"),
    )
