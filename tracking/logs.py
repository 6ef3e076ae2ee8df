"""The log file of a study."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from mmsearch.secrets import without_password

if TYPE_CHECKING:
    from collections.abc import Iterator

_FORMAT = "%(asctime)s %(process)d %(levelname)s %(name)s: %(message)s"


class _Formatter(logging.Formatter):
    """Hides passwords in URLs, in tracebacks too."""

    def format(self, record: logging.LogRecord) -> str:
        """Format a record, its traceback included."""
        return "\n".join(map(without_password, super().format(record).split("\n")))


class _LogFile(logging.FileHandler):
    """A log file that is made with its first line, and whose failures stop nothing."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, encoding="utf-8", errors="backslashreplace", delay=True)
        self.setFormatter(_Formatter(_FORMAT))

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line; a full disk is reported by the journal."""
        with contextlib.suppress(OSError):
            Path(self.baseFilename).parent.mkdir(mode=0o700, exist_ok=True)
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (the base class's)
        """Write no traceback to the terminal."""


@contextlib.contextmanager
def logging_to(folder: Path) -> Iterator[None]:
    """Write what the package logs to `mmsearch.log` in a folder, while entered.

    Nothing goes to the terminal: what a person must know is printed by who finds it out.
    """
    logger = logging.getLogger("mmsearch")
    handler = _LogFile(folder / "mmsearch.log")
    level, propagates = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagates
        handler.close()
