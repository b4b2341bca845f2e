"""JsonFormatter: one line of JSON a log record, so that no file name or address can forge a line.

In a terminal, where people read, lines have the daemon's form instead.
"""

from __future__ import annotations

import json
import logging
import sys
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

from daemon.logs import FORMAT
from sidecar.client import ClientStalled

request_id: ContextVar[str] = ContextVar("request_id", default="")
"""Id of the request that is served, for every line logged on its behalf."""

CHATTER = (
    "Waiting for connections to close",
    "Waiting for background tasks",
    "Invalid HTTP request received",
    "Unsupported upgrade request",
    "No supported",
    "Cancel ",
)
"""Beginnings of the server's own lines that say nothing more than ours do."""
_encode = json.JSONEncoder(default=str).encode


class JsonFormatter(logging.Formatter):
    """Writes a record as one line of ASCII JSON; a stack trace is one escaped string in it."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
        }
        if current := request_id.get():
            line["request_id"] = current
        line.update(getattr(record, "fields", {}))
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return _encode(line)


class TerminalFormatter(logging.Formatter):
    """Writes a record as the daemon does, its fields behind it; all but a stack trace is on one line."""

    def __init__(self) -> None:
        super().__init__(FORMAT)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - its name in logging
        """Return the line without a stack trace."""
        fields = "".join(f" {name}={_encode(value)}" for name, value in getattr(record, "fields", {}).items())
        line = super().formatMessage(record) + fields
        return line.encode("unicode_escape").decode()


def _worth_a_line(record: logging.LogRecord) -> bool:
    if record.exc_info and isinstance(record.exc_info[1], ClientStalled):
        return False  # it went through the server so that the connection is closed; our own line says it
    return not record.getMessage().startswith(CHATTER)


def setup(level: str) -> None:
    """Send all log lines to standard error in this form."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(TerminalFormatter() if sys.stderr.isatty() else JsonFormatter())
    handler.addFilter(_worth_a_line)
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.getLogger("python_multipart").setLevel(logging.CRITICAL)
    # Its own line for each request would come beside ours.
    logging.getLogger("uvicorn.access").disabled = True
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)  # our own "listening" line says it has started
    logging.getLogger("asyncio").setLevel(logging.WARNING)
