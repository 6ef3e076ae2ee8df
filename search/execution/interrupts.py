"""Ctrl-C, SIGTERM and SIGHUP: the first signal stops in order, the second at once."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
import termios
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

_SHOW_CURSOR = b"\x1b[?25h"


def stopping_signals() -> tuple[signal.Signals, ...]:
    """Return the signals that end a command, without those that its parent made it ignore.

    nohup does so with SIGHUP, and a shell script with SIGINT for what it starts in the background.
    """
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    return tuple(number for number in signals if signal.getsignal(number) != signal.SIG_IGN)


def exit_code(number: int) -> int:
    """Return the shell's exit code for a process that a signal ended."""
    return 128 + number


def leave_terminal(number: int) -> None:
    """After SIGHUP, redirect output from a closed terminal, where writing fails, to /dev/null."""
    if number != signal.SIGHUP:
        return
    for stream in (0, 1, 2):
        try:
            termios.tcgetattr(stream)
        except termios.error as error:
            if error.args[0] == errno.EIO:
                nowhere = os.open(os.devnull, os.O_RDWR)
                os.dup2(nowhere, stream)
                os.close(nowhere)


class Interrupts:
    """A context manager, for the main thread, that handles the stopping signals.

    A command has phases, each with its own way to stop. A signal before the first phase is passed
    to it. SIGHUP never counts as the second signal: when a terminal is closed, both the kernel
    and the shell send one.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        """Create the handler; `say` is called with a line about what a signal does."""
        self._say = say
        self._stop: Callable[[], None] | None = None
        self._doing = "stopping as soon as everything has started"
        self._is_asked = False
        self._has_come = False
        self._first: int = signal.SIGINT
        self._before: dict[signal.Signals, signal._HANDLER] = {}

    def __enter__(self) -> Self:
        self._before = {
            number: signal.signal(number, self._on_signal) for number in stopping_signals()
        }
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @property
    def exit_code(self) -> int:
        """The process's exit code after the first signal."""
        return exit_code(self._first)

    def phase(self, stop: Callable[[], None], doing: str) -> None:
        """Start a phase.

        Args:
            stop: stops it; called from the signal handler.
            doing: what is printed when it is called.
        """
        is_first = self._stop is None
        self._stop, self._doing = stop, doing
        # In this order, so that a signal from here on calls the new `stop`.
        is_asked_early = is_first and self._is_asked
        self._is_asked = is_asked_early
        if is_asked_early:
            stop()

    def _on_signal(self, number: int, _frame: object) -> None:
        leave_terminal(number)
        if self._is_asked and number == signal.SIGHUP:
            return
        if self._is_asked:
            # The journal has what earlier calls trained, and the workers exit, too.
            # os.write takes no lock, and the display may be what hangs.
            with contextlib.suppress(OSError):
                if sys.stdout.isatty():
                    os.write(1, _SHOW_CURSOR)
                os.write(2, b"\nstopped at once; the same command resumes from the last segments\n")
            os._exit(exit_code(number))
        if not self._has_come:
            self._first, self._has_come = number, True
        self._is_asked = True
        if self._stop is not None:
            self._stop()
        # In a thread, since the interrupted code may hold the display's lock.
        line = f"{self._doing}; a second signal stops at once"
        threading.Thread(target=self._say, args=(line,), daemon=True).start()
