"""The form of log lines; LogOnce: a problem that persists is logged when it begins and when its reason changes."""

from __future__ import annotations

import logging
import sys

FORMAT = "%(asctime)s %(levelname)s %(message)s"
"""Of a log line that people read."""


def setup_logging(level: str) -> None:
    """Send all log lines to standard error in this form.

    Args:
        level: The setting ``log_level``.
    """
    logging.basicConfig(level=level.upper(), format=FORMAT, stream=sys.stderr)


class LogOnce:
    """Logs a sentence unless it is the one logged last.

    Args:
        logger: Where to.
        level: As in ``logging``.
    """

    def __init__(self, logger: logging.Logger, level: int = logging.WARNING) -> None:
        self._logger = logger
        self._level = level
        self._last: str | None = None

    def __call__(self, sentence: str) -> None:
        """Log a sentence, or nothing if it says what the last one said."""
        if sentence != self._last:
            self._last = sentence
            self._logger.log(self._level, "%s", sentence)

    def solved(self) -> bool:
        """Note that the problem is over, so that its return is logged again; tell whether there was one."""
        before, self._last = self._last, None
        return before is not None
