"""Ctrl-C, SIGTERM and SIGHUP: the first ends what is going on in order, the second at once."""

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
    """Return the signals that end a command; SIGHUP is none where it is ignored, as under nohup."""
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    return tuple(n for n in signals if n != signal.SIGHUP or signal.getsignal(n) != signal.SIG_IGN)


def exit_code(number: int) -> int:
    """Return what a process exits with that a signal has ended, as a shell counts it."""
    return 128 + number


def leave_terminal(number: int) -> None:
    """After SIGHUP, write to nowhere instead of to a terminal that is gone, which is an error."""
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
    """Catches the signals while it is entered, in the main thread, and passes them on.

    A command has phases, and each has its own way to stop. A signal that came before the first
    phase is passed to it. SIGHUP never counts as the second signal: where a terminal is closed,
    both the kernel and the shell send one.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        """Prepare it; `say` is told, in a line, what a signal does."""
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
        """What the process exits with after the first signal."""
        return exit_code(self._first)

    def phase(self, stop: Callable[[], None], doing: str) -> None:
        """Begin a phase: how to stop it, and what to say of that."""
        is_first = self._stop is None
        self._stop, self._doing = stop, doing
        # In this order: a signal from here on finds the way to stop.
        is_asked_early = is_first and self._is_asked
        self._is_asked = is_asked_early
        if is_asked_early:
            stop()

    def _on_signal(self, number: int, _frame: object) -> None:
        leave_terminal(number)
        if self._is_asked and number == signal.SIGHUP:
            return
        if self._is_asked:
            # Nothing is lost: the journal is as the last segment left it, and workers follow.
            # Written past every lock: the display may be what hangs.
            with contextlib.suppress(OSError):
                if sys.stdout.isatty():
                    os.write(1, _SHOW_CURSOR)
                os.write(2, b"\nstopped at once; the same line goes on from the last segments\n")
            os._exit(exit_code(number))
        if not self._has_come:
            self._first, self._has_come = number, True
        self._is_asked = True
        if self._stop is not None:
            self._stop()
        # From a thread: what this signal interrupted may hold the lock of the display.
        line = f"{self._doing}; once more to stop at once"
        threading.Thread(target=self._say, args=(line,), daemon=True).start()
