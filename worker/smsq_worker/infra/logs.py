"""Logs: as text, or as JSON with a record's ids and states in separate fields."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from smsq.contract import SEND_SMS
from smsq_worker import i18n
from smsq_worker.config.parsers import LogFormat
from smsq_worker.domain.printable import escaped

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


class PlainLines(logging.Formatter):
    """Writes a record as text, by a formatter, in which nothing foreign acts or begins a line.

    What a format string is filled with is escaped. What follows a line break, as in a traceback, is
    indented, so that it does not look like a separate record.
    """

    def __init__(self, inner: logging.Formatter) -> None:
        super().__init__()
        self._inner = inner

    def format(self, record: logging.LogRecord) -> str:
        """Return one record."""
        copy = logging.makeLogRecord(vars(record))
        copy.args = _escaped_args(record.args)
        copy.exc_text = None  # another formatter may have left its own
        first, *more = self._inner.format(copy).split("\n")
        return "\n".join([escaped(first), *(f"    {escaped(line)}".rstrip() for line in more)])


class Lines(str):
    """smsq's own lines that a format string is filled with: they stay lines."""

    __slots__ = ()


class _Escaped:
    """An object whose texts are escaped, made only if they are needed."""

    def __init__(self, value: object) -> None:
        self._value = value

    def __str__(self) -> str:
        return escaped(str(self._value))

    def __repr__(self) -> str:
        return escaped(repr(self._value))


def _escaped_args(args: Any) -> Any:
    if isinstance(args, tuple):
        return tuple(map(_escaped_value, args))
    if isinstance(args, Mapping):
        # Celery's own records of a task that failed; their last line is indented like the others.
        lines = {"traceback"} & args.keys()
        own = {name: Lines(args[name]) for name in lines}
        return {name: _escaped_value(value) for name, value in (dict(args) | own).items()}
    return args


def _escaped_value(value: object) -> object:
    if value is None or isinstance(value, int | float | Lines):
        return value
    return escaped(value) if isinstance(value, str) else _Escaped(value)


def to_stderr(
    log_format: LogFormat, level: int = logging.INFO, *, text: str = FORMAT, worker: str = ""
) -> None:
    """Log to stderr, as JSON or in the format `text`; from then on this process speaks English."""
    i18n.use(i18n.Lang.EN)
    is_json = log_format == "json"
    handler = logging.StreamHandler()
    plain = PlainLines(logging.Formatter(text))
    handler.setFormatter(JsonLines(worker) if is_json else plain)
    logging.captureWarnings(is_json)
    logging.basicConfig(level=level, handlers=[handler])


def announce(log: logging.Logger, log_format: LogFormat, words: str) -> None:
    """Write to stdout what whoever started this waits for, or to the log if that is JSON."""
    if log_format == "json":
        log.info("%s", words)
    else:
        sys.stdout.write(f"{escaped(words)}\n")
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
