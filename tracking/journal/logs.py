"""The log file of a study."""

from __future__ import annotations

import contextlib
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mmsearch.secrets import without_password, without_secrets

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_FORMAT = "%(asctime)s %(process)d %(levelname)s %(name)s: %(message)s"


class _Formatter(logging.Formatter):
    """Masks passwords, also in tracebacks."""

    def __init__(self, style: str, uris: Sequence[str]) -> None:
        super().__init__(style)
        self._uris = uris

    def format(self, record: logging.LogRecord) -> str:
        """Format a record and its traceback."""
        return "\n".join(map(self._masked, super().format(record).split("\n")))

    def _masked(self, line: str) -> str:
        for uri in self._uris:
            line = without_secrets(line, uri)
        return without_password(line)


class _LogFile(logging.FileHandler):
    """A log file that is created with its first line, and whose failures stop nothing."""

    def __init__(self, path: Path, uris: Sequence[str]) -> None:
        super().__init__(path, encoding="utf-8", errors="backslashreplace", delay=True)
        self.setFormatter(_Formatter(_FORMAT, uris))

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record; a full disk is reported by the journal."""
        with contextlib.suppress(OSError):
            Path(self.baseFilename).parent.mkdir(mode=0o700, exist_ok=True)
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (the base class's)
        """Print no traceback."""


class _Terminal(logging.Handler):
    """Prints warnings to the current `sys.stderr`, which a live display may have replaced."""

    def __init__(self, uris: Sequence[str]) -> None:
        super().__init__(logging.WARNING)
        self.setFormatter(_Formatter("%(message)s", uris))

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record."""
        sys.stderr.write(f"{self.format(record)}\n")


@contextlib.contextmanager
def logging_to(folder: Path, *uris: str) -> Iterator[None]:
    """Write what the package logs to `mmsearch.log` in a folder; print warnings as well.

    Args:
        folder: created with the first record.
        uris: addresses of databases and servers, whose passwords are masked.
    """
    logger = logging.getLogger("mmsearch")
    level, handlers = logger.level, (_LogFile(folder / "mmsearch.log", uris), _Terminal(uris))
    for handler in handlers:
        logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.setLevel(level)
        for handler in handlers:
            logger.removeHandler(handler)
            handler.close()
