"""What a person sees of a search as it goes: a live display, or one line a trial."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rich.live import Live

from mmsearch.search.display.board import Board, Sized
from mmsearch.search.display.format import trial_line

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from rich.console import Console, RenderableType

    from mmsearch.tracking.journal.records import TrialRecord

_LOG = 4
"""Lines left to what scrolls by above the display."""


@dataclass(slots=True)
class Progress:
    """Follows the trials of one study; a context that draws itself where there is a terminal."""

    console: Console
    n_trials: int
    """How many finished trials the study shall have."""
    earlier: list[TrialRecord]
    """Those it had before."""
    is_quiet: bool = False
    what: str = "trials"
    """What is counted."""
    # Noted by the main thread and drawn by Live's, four times a second.
    _board: Board = field(init=False)
    _began_s: float = field(init=False, default_factory=time.monotonic)
    _live: Live | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self._board = Board(self.n_trials, self.what)
        for record in self.earlier:
            self._board.note(record)
        self._board.n_before = self._board.n_finished

    def __enter__(self) -> Self:
        if self.console.is_terminal and not self.is_quiet:
            # It goes at its end: what the search came to is printed next.
            self._live = Live(
                Sized(self._draw), console=self.console, refresh_per_second=4, transient=True
            )
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, record: TrialRecord) -> None:
        """Take note of a trial's news; its end comes once, and last."""
        self._board.note(record)
        if record.outcome is not None and not self.is_quiet:
            line = trial_line(record, is_best=record is self._board.best and not record.is_repeat)
            self.console.print(line, soft_wrap=True)

    def say(self, message: str) -> None:
        """Show a line of news that is not a trial's."""
        self.console.print(message, style="yellow", highlight=False, soft_wrap=True)

    def _draw(self, width: int, height: int, is_ascii: bool) -> list[RenderableType]:  # noqa: FBT001 (as `Sized` calls it)
        elapsed_s = time.monotonic() - self._began_s
        return self._board.draw(elapsed_s, width, height - _LOG, is_ascii=is_ascii)
