"""A search followed from another terminal: reads its journal, and writes nothing."""

from __future__ import annotations

import bisect
import signal
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rich.live import Live
from rich.text import Text

from mmsearch.search.display import printing
from mmsearch.search.display.board import Board, Sized
from mmsearch.search.display.format import trial_line
from mmsearch.search.execution.interrupts import leave_terminal, stopping_signals
from mmsearch.search.study.study_file import StudyFile
from mmsearch.search.study.workspace import is_owned, options_of
from mmsearch.tracking.journal.follow import Follower
from mmsearch.tracking.journal.records import TrialState

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console, RenderableType

    from mmsearch.tracking.journal.journal import Journal
    from mmsearch.tracking.journal.records import TrialRecord

POLL_S = 1.0
"""Seconds between two looks at the journal."""
_BOARD_SHARE = 0.7
"""Of the terminal's lines for the board; the table has the rest."""
_TABLE_HEAD = 2
"""Lines of the table besides its trials: an empty one and the headings."""


@dataclass(slots=True)
class Watch:
    """Shows a study's trials until its search has ended."""

    console: Console
    journal: Journal
    limit: int | None = None
    """Trials in the table; None for those that fit."""
    as_json: bool = False
    _board: Board = field(init=False)
    _ended: list[TrialRecord] = field(init=False, default_factory=list)
    """Best first."""
    _began_s: float = field(init=False)
    _stopped_by: int | None = field(init=False, default=None)
    _wake: threading.Event = field(init=False, default_factory=threading.Event)

    def __post_init__(self) -> None:
        # Its process may be finishing MLflow, or be another command that has taken the study.
        self._board = Board(
            StudyFile.require(self.journal).n_trials, at_end="its process is still at work"
        )
        # The lock is written when a search begins.
        lock = self.journal.folder / "lock"
        self._began_s = lock.stat().st_mtime if lock.exists() else time.time()

    def run(self) -> int | None:
        """Follow the search to its end; return the signal that ended that before, if one did."""
        for number in stopping_signals():
            signal.signal(number, self._on_signal)
        signal.signal(signal.SIGWINCH, lambda *_: self._wake.set())
        is_drawn = self.console.is_terminal and not self.console.is_dumb_terminal
        if self.as_json or not is_drawn:
            self._follow(self._say)
        else:
            # A screen of its own: what was drawn for another size leaves nothing behind.
            shown = Sized(self._draw)
            with Live(shown, console=self.console, screen=True, auto_refresh=False) as live:
                self._follow(lambda record: None if record else live.refresh())
        if not self.as_json:
            self._say_end(is_drawn=is_drawn)
        return self._stopped_by

    def _follow(self, show: Callable[[TrialRecord | None], None]) -> None:
        follower = Follower(self.journal)
        while self._stopped_by is None:
            # Before the news: what its owner has written is read once more after its end.
            is_running = is_owned(self.journal)
            self._board.n_trials = StudyFile.require(self.journal).n_trials
            news = follower.news()
            news.sort(key=lambda record: record.outcome.ended_ms if record.outcome else 0)
            for record in news:
                self._board.note(record)
                if record.outcome is not None:
                    show(record)
                    bisect.insort(self._ended, record, key=lambda trial: trial.rank)
                    is_before = record.outcome.ended_ms < self._began_s * 1000
                    self._board.n_before += is_before and record.state != TrialState.FAIL
            show(None)
            if not is_running:
                return
            self._wake.wait(POLL_S)
            self._wake.clear()

    def _draw(self, width: int, height: int, is_ascii: bool) -> list[RenderableType]:  # noqa: FBT001 (as `Sized` calls it)
        """Draw the board, and below it the best trials: so many as fit."""
        n_board = int(height * _BOARD_SHARE) if self._board.running else 4
        if self.limit is not None:
            n_board = max(n_board, height - _TABLE_HEAD - min(self.limit, len(self._ended)))
        elapsed_s = max(0.0, time.time() - self._began_s)
        lines = self._board.draw(elapsed_s, width, n_board, is_ascii=is_ascii)
        n_free = height - _TABLE_HEAD - sum(self._n_lines(line, width) for line in lines)
        shown = self._ended[: max(0, min(n_free, self.limit or n_free))]
        if not shown:
            return lines
        return [*lines, Text(), printing.trials_table(shown, is_running=True)]

    def _n_lines(self, part: RenderableType, width: int) -> int:
        options = self.console.options.update(width=width)
        return len(self.console.render_lines(part, options, pad=False))

    def _say(self, record: TrialRecord | None) -> None:
        """Print a trial that has ended, at once also into a pipe."""
        if record is None:
            return
        if self.as_json:
            printing.emit(printing.trial_json(record), indent=None)
        else:
            self.console.print(trial_line(record, is_best=record is self._board.best))
        self.console.file.flush()

    def _say_end(self, *, is_drawn: bool) -> None:
        """Say how the search stands, now that it is not followed any more."""
        out, board, n_trials = self.console, self._board, self._board.n_trials
        if is_drawn and self._ended:
            shown = self._ended[: self.limit or 10]
            out.print(printing.trials_table(shown, is_running=True))
        here = options_of(self.journal)
        stands = f"study {self.journal.name!r}: {board.n_finished} of {n_trials} trials"
        if self._stopped_by is not None:
            out.print(f"{stands}; not followed any more", style="yellow")
        elif board.n_finished >= n_trials and not board.running:
            out.print(f"{stands}; its search has ended")
        else:
            out.print(f"{stands}; its search has stopped", style="yellow")
            out.print(f"go on:    mmsearch run --trials {n_trials}{here}")

    def _on_signal(self, number: int, _frame: object) -> None:
        leave_terminal(number)
        self._stopped_by = number
        self._wake.set()
