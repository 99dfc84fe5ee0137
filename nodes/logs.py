"""Logging: one event a line on standard error, for people or as JSON. Never an identifier, never a value's data."""

import json
import logging
import sys
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

from msgspec import Struct


class LogFormat(StrEnum):
    """How a line looks."""

    TEXT = "text"
    JSON = "json"


class LogLevel(StrEnum):
    """From which weight on events are told."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The section `log`."""

    level: LogLevel = LogLevel.INFO
    """From which weight on events are told: debug, info, warning, error."""

    format: LogFormat = LogFormat.TEXT
    """text for people, json for collectors: one object a line."""


_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
"""What every log record has; anything else on it was given with `extra`."""


def set_up(settings: LogSettings, name: str) -> None:
    """Let this interpreter log to standard error; `name` says which process of the node it is."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines(name) if settings.format is LogFormat.JSON else TextLines(name))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.level.value.upper())
    # Cassandra's driver tells with tracebacks what the store's border counts and tells in a line.
    logging.getLogger("cassandra").setLevel(logging.CRITICAL)


class TextLines(logging.Formatter):
    """2026-11-25T00:29:00.123Z INFO    supervisor: worker ended worker=0 exit_code=-9."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name

    def format(self, record: logging.LogRecord) -> str:
        extra = "".join(f" {key}={value}" for key, value in extras(record).items())
        line = f"{_moment(record)} {record.levelname:<7} {self._name}: {record.getMessage()}{extra}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class JsonLines(logging.Formatter):
    """One object a line: time, level, process, logger, event, whatever was given with `extra`, and the exception."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, object] = {
            "time": _moment(record),
            "level": record.levelname.lower(),
            "process": self._name,
            "logger": record.name,
            "event": record.getMessage(),
        }
        fields |= extras(record)
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return json.dumps(fields, ensure_ascii=False, default=str)


def extras(record: logging.LogRecord) -> dict[str, object]:
    """Give what was logged with `extra`."""
    return {key: value for key, value in vars(record).items() if key not in _STANDARD}


def _moment(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
