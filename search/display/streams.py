"""Standard output and error that may be closed, full, or read by nobody.

A command that prints a result ends where it cannot print: in silence where a reader of a pipe has
read enough, otherwise with one line. A command that trains goes on without its output.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
import select
import sys
import threading
from typing import TYPE_CHECKING

from mmsearch.errors import MMSearchError

if TYPE_CHECKING:
    from collections.abc import Iterator


class _Descriptor(io.FileIO):
    """A file descriptor whose writes do not fail twice: it is redirected to /dev/null first."""

    def write(self, data: object, /) -> int:
        """Write bytes; waits where the descriptor was made non-blocking by another process."""
        try:
            # None: it would have to wait.
            while (n_written := super().write(data)) is None:  # type: ignore[arg-type]
                select.select([], [self], [])
        except OSError as error:
            discard(self.fileno())
            if self.fileno() == 1:
                _lose(error)
            return len(memoryview(data))  # type: ignore[arg-type]
        return n_written


_SIZES = ("COLUMNS", "LINES", "TERMINAL_WIDTH")
"""Variables from which rich and typer take a size, whatever they contain."""
_SIZE = re.compile("[1-9][0-9]{1,3}")
"""Sizes that a terminal may have; of other ones nothing could be read, if they are sizes at all."""
_lost: OSError | None = None
"""Why standard output could not be written."""
_working = ""
"""What goes on without standard output; empty if nothing does."""


def discard(descriptor: int) -> None:
    """Redirect a descriptor to /dev/null."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    if nowhere != descriptor:
        os.dup2(nowhere, descriptor)
        os.close(nowhere)


def guard_streams() -> None:
    """Make the standard streams of this process usable, whatever its parent has left of them.

    A closed one becomes /dev/null, else the next file that is opened would take its place. A
    size in the environment that no terminal has is ignored.
    """
    for name in _SIZES:
        if not _SIZE.fullmatch(os.environ.get(name, "80")):
            del os.environ[name]
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            discard(descriptor)
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False)  # noqa: SIM115 (for as long as the process)
    sys.stdout = _guarded(sys.stdout, 1)
    sys.stderr = _guarded(sys.stderr, 2)


def _guarded(stream: object, descriptor: int) -> io.TextIOWrapper:
    """Return a stream like another one, or one of its own where there is none."""
    encoding = "utf-8"
    if isinstance(stream, io.TextIOWrapper):
        encoding = stream.encoding
        with contextlib.suppress(OSError):
            stream.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(_Descriptor(descriptor, "wb", closefd=False)),
        encoding=encoding,
        errors="backslashreplace",  # whatever a terminal cannot show
        line_buffering=descriptor == 2 or os.isatty(descriptor),  # noqa: PLR2004 (stderr)
    )


@contextlib.contextmanager
def going_on(what: str) -> Iterator[None]:
    """Let work go on where standard output cannot be written; say so once.

    Args:
        what: the work.
    """
    global _working  # noqa: PLW0603 (there is one standard output)
    _working = what
    try:
        yield
    finally:
        _working = ""


def _lose(error: OSError) -> None:
    global _lost  # noqa: PLW0603 (there is one standard output)
    _lost = error
    if _working:
        # A live display takes the place of sys.stderr, and would print on standard output.
        with contextlib.suppress(OSError):
            os.write(2, f"{_why(error)}; {_working} goes on without it\n".encode())
    elif threading.current_thread() is threading.main_thread():
        if error.errno == errno.EPIPE:
            sys.exit(0)
        raise MMSearchError(_why(error))


def _why(error: OSError) -> str:
    return f"standard output cannot be written: {error.strerror}"


def is_output_lost() -> bool:
    """Return whether output was lost for another reason than that its reader had read enough."""
    return _lost is not None and _lost.errno != errno.EPIPE


def release_output() -> None:
    """Drop the output that nobody takes now, so that ending the process waits for no reader."""
    if not select.select([], [1], [], 0)[1]:
        discard(1)
