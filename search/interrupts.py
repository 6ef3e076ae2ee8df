"""Ctrl-C and SIGTERM: the first one ends what is going on in order, the second one at once."""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_SHOW_CURSOR = b"\x1b[?25h"


class Interrupts:
    """Catches the signals while it is entered, in the main thread, and passes them on.

    A command has phases, and each has its own way to stop. A signal that came before the first
    phase is passed to it.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        """Prepare it; `say` is told, in a line, what a signal does."""
        self._say = say
        self._stop: Callable[[], None] | None = None
        self._doing = "stopping as soon as everything has started"
        self._is_asked = False
        self._before: dict[signal.Signals, signal._HANDLER] = {}

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._on_signal) for number in _SIGNALS}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def phase(self, stop: Callable[[], None], doing: str) -> None:
        """Begin a phase: how to stop it, and what to say of that."""
        is_asked_early = self._is_asked and self._stop is None
        self._stop, self._doing = stop, doing
        self._is_asked = is_asked_early
        if is_asked_early:
            stop()

    def _on_signal(self, _number: int, _frame: object) -> None:
        if self._is_asked:
            # Nothing is lost: the journal is as the last segment left it, and workers follow.
            # Written past every lock: the display may be what hangs.
            if sys.stdout.isatty():
                os.write(1, _SHOW_CURSOR)
            os.write(2, b"\nstopped at once; the same line goes on from the last segments\n")
            os._exit(130)
        self._is_asked = True
        if self._stop is not None:
            self._stop()
        # From a thread: what this signal interrupted may hold the lock of the display.
        line = f"{self._doing}; once more to stop at once"
        threading.Thread(target=self._say, args=(line,), daemon=True).start()
