"""Runs commands in a pseudo-terminal of 80 columns and 24 lines."""

import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
from pathlib import Path

from tests.support.commands import COMMAND, environment
from tests.support.waiting import PATIENCE_S


def begin(
    folder: Path, *words: object, is_controlling: bool = False, **env: str
) -> tuple[subprocess.Popen[bytes], int]:
    """Start the installed command in a terminal.

    Args:
        folder: working folder and home.
        words: arguments of `mmsearch`.
        is_controlling: whether the command gets SIGHUP when the terminal is closed.
        env: additional environment variables.

    Returns:
        The process, and the file descriptor of its terminal.
    """
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    # The terminal tells the size, and only `env` asks for colours.
    unset = ("COLUMNS", "NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE")
    kept = {name: value for name, value in environment(folder).items() if name not in unset}
    process = subprocess.Popen(
        [COMMAND, *map(str, words)],
        cwd=folder,
        env={**kept, "TERM": "xterm-256color", **env},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=_control if is_controlling else None,  # noqa: PLW1509 (no thread holds a lock)
    )
    os.close(theirs)
    return process, ours


def _control() -> None:
    """Make standard input this session's terminal."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def read(terminal: int) -> bytes:
    """Read what a command has written; empty once it has ended."""
    assert select.select([terminal], [], [], PATIENCE_S)[0], "the command neither writes nor ends"
    try:
        return os.read(terminal, 65536)
    except OSError:  # the command has ended
        return b""


def in_terminal(folder: Path, *words: object, **env: str) -> tuple[int, str]:
    """Run a command as `begin` does, to its end.

    Returns:
        Its exit code, and its output with control sequences.
    """
    process, terminal = begin(folder, *words, is_controlling=False, **env)
    try:
        written = b"".join(iter(lambda: read(terminal), b""))
    except BaseException:
        process.kill()
        raise
    finally:
        code = process.wait()
        os.close(terminal)
    return code, written.decode().replace("\r\n", "\n")
