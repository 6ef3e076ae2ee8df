"""The errors that a person can act on; the floor under all four rooms.

    MMSearchError            exit 1: failed while running
    ├── InputError           exit 2: wrong usage or bad input
    └── RefusedError         exit 3: refused so as to protect a result

A message names the thing, the rule, the value it got and, after "; ", the next step. The command
line prints it as one line, without a traceback.
"""

import re
from pathlib import Path

_QUOTED_OR_NEXT = re.compile(r"(?<!\w)(['\"]).*?\1(?!\w)|; ", re.DOTALL)
"""Matches a quoted name or value, which may hold anything, and what divides a message."""
_MAX_SHOWN = 60


class MMSearchError(Exception):
    """Root of the errors that mmsearch raises on purpose."""

    exit_code = 1
    """What the process exits with when the error reaches the command line."""
    what: str
    """The message up to the next step."""
    hint: str
    """The next step; empty where the message names none."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        """Make the error of a message.

        Args:
            message: what happened; without `hint`, the next step follows its first "; ".
            hint: the next step, where the words of another program or a list may hold a "; ".
        """
        self.what, self.hint = _divided(message) if hint is None else (message, hint)
        super().__init__(f"{self.what}; {self.hint}" if self.hint else self.what)


class InputError(MMSearchError):
    """The corpus, the config or an option cannot be used as given."""

    exit_code = 2


class RefusedError(MMSearchError):
    """The command would have damaged a result: a running study, a stored one, the test split."""

    exit_code = 3


def quoted(value: str | Path) -> str:
    """Return a word, a line or a path as a message shows it: in quotes, and a long text cut."""
    # repr escapes newlines and unprintable characters, so this is one line.
    if isinstance(value, Path):
        return repr(str(value))
    return repr(value if len(value) <= _MAX_SHOWN else value[:_MAX_SHOWN] + "…")


def _divided(message: str) -> tuple[str, str]:
    """Divide a message before its next step."""
    for found in _QUOTED_OR_NEXT.finditer(message):
        if found[0] == "; ":
            return message[: found.start()], message[found.end() :]
    return message, ""
