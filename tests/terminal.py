"""Commands in a pseudo-terminal of 80 columns and 24 lines."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import termios
from typing import TYPE_CHECKING

from tests.commands import COMMAND, environment

if TYPE_CHECKING:
    from pathlib import Path


def in_terminal(folder: Path, *words: object, **env: str) -> tuple[int, str]:
    """Run the installed command in a terminal.

    Args:
        folder: where, and whose home.
        words: of the command.
        env: more of its environment.

    Returns:
        Its exit code, and all that it wrote, control sequences included.
    """
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    settled = {"TERM": "xterm-256color", **env}
    inherited = {name: value for name, value in environment(folder).items() if name != "COLUMNS"}
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE"):
        inherited.pop(name, None)
    process = subprocess.Popen(
        [COMMAND, *map(str, words)],
        cwd=folder,
        env={**inherited, **settled},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    written = b""
    while True:
        try:
            chunk = os.read(ours, 65536)
        except OSError:  # nobody writes any more
            break
        if not chunk:
            break
        written += chunk
    os.close(ours)
    return process.wait(), written.decode().replace("\r\n", "\n")
