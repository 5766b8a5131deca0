"""Logs: as text, or as JSON with a record's ids and states in separate fields."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any, Final

from smsq.contract import SEND_SMS
from smsq_worker import i18n
from smsq_worker.config.parsers import LogFormat

FORMAT: Final = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def about(**known: object) -> dict[str, Any]:
    """Return `extra` for a log record: id, attempt, mid, outcome, state, lane, if known.

    Never pass a number or a code.
    """
    return {"smsq": {name: value for name, value in known.items() if value}}


class JsonLines(logging.Formatter):
    """Writes a record as one line of JSON."""

    def __init__(self, worker: str = "") -> None:
        """`worker` is the Celery node's name."""
        super().__init__()
        self._common = {"worker": worker} if worker else {}

    def format(self, record: logging.LogRecord) -> str:
        """Return one record, in ASCII, which any stream can take."""
        entry = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "process": record.process,
        }
        entry |= self._common | _known(record)
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            entry["stack"] = record.stack_info
        return json.dumps(entry)


def to_stderr(
    log_format: LogFormat, level: int = logging.INFO, *, text: str = FORMAT, worker: str = ""
) -> None:
    """Log to stderr, as JSON or in the format `text`; from then on this process speaks English."""
    i18n.use(i18n.Lang.EN)
    is_json = log_format == "json"
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines(worker) if is_json else logging.Formatter(text))
    logging.captureWarnings(is_json)
    logging.basicConfig(level=level, handlers=[handler])


def announce(log: logging.Logger, log_format: LogFormat, words: str) -> None:
    """Write to stdout what whoever started this waits for, or to the log if that is JSON."""
    if log_format == "json":
        log.info("%s", words)
    else:
        sys.stdout.write(f"{words}\n")
        sys.stdout.flush()


def _known(record: logging.LogRecord) -> dict[str, Any]:
    found = getattr(record, "smsq", None)
    if isinstance(found, dict):
        return found
    # Celery's own record of a task, of which only name and id may be shown.
    data = getattr(record, "data", None)
    if isinstance(data, dict) and data.get("name") == SEND_SMS:
        return {"id": data.get("id")}
    return {}
