"""Where a search stands, drawn for a terminal: counts, the best, and the running trials' losses."""

from __future__ import annotations

import os
import string
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rich.progress_bar import ProgressBar
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from mmsearch.search.display.chart import MIN_ROWS, Curve, Frame, draw_chart
from mmsearch.search.display.format import duration, spec_words, trial_label
from mmsearch.tracking.journal.records import TrialRecord, TrialState, best_trial

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

MAX_CHART_ROWS = 10
"""Rows of the chart on a tall terminal; more would show noise."""
_STYLES = ("cyan", "yellow", "magenta", "bright_blue")
"""Of the running trials' marks; told apart by most, and needed by nobody."""
_FAR = 10.0
"""Nats from the best; more has no room, and says no more."""
_HEAD = 4
"""Lines above the chart: progress, counts, the best and its hyperparameters."""
_AXIS = 3
"""Lines of a chart besides its rows: a caption above, an axis and its labels below."""


@dataclass(slots=True)
class Board:
    """What is known of a study's trials, noted as they go: no pass over all of them."""

    n_trials: int
    """How many finished trials there shall be."""
    what: str = "trials"
    """What is counted."""
    at_end: str = "MLflow is catching up"
    """What goes on when all trials are there."""
    n_before: int = 0
    """Finished trials that were there when the search began."""
    best: TrialRecord | None = None
    """The complete trial with the lowest score."""
    running: dict[int, TrialRecord] = field(default_factory=dict)
    n_ended: Counter[TrialState] = field(default_factory=Counter)
    """By state."""
    _marks: dict[int, str] = field(init=False, default_factory=dict)
    """Of the running trials that are charted; each keeps its own."""

    def note(self, record: TrialRecord) -> None:
        """Take note of a trial's news; its end comes once, and last."""
        if record.outcome is None:
            self.running[record.number] = record
            return
        self.n_ended[record.state] += 1
        self.best = best_trial((record,) if self.best is None else (self.best, record))
        self.running.pop(record.number, None)

    @property
    def n_finished(self) -> int:
        """Trials that are complete or pruned."""
        return self.n_ended[TrialState.COMPLETE] + self.n_ended[TrialState.PRUNED]

    def draw(
        self, elapsed_s: float, width: int, height: int, *, is_ascii: bool
    ) -> list[RenderableType]:
        """Draw the board in at most `height` lines, where that is possible at all.

        Args:
            elapsed_s: seconds of this search so far.
            width: columns.
            height: lines.
            is_ascii: whether the terminal has no other characters.
        """
        running = list(self.running.values())  # the main thread changes them meanwhile
        lines = [*self._draw_head(elapsed_s, len(running)), *self._draw_best()]
        n_rows = min(len(running), max(1, (height - _HEAD) // 2))
        shown = self._choose(running, n_rows if n_rows == len(running) else n_rows - 1)
        n_free = height - _HEAD - n_rows - _AXIS
        lines += self._draw_chart(shown, width, min(n_free, MAX_CHART_ROWS), is_ascii=is_ascii)
        lines += [self._draw_running(record) for record in shown]
        if len(shown) < len(running):
            lines.append(_line(f"  and {len(running) - len(shown)} more", "dim"))
        return lines

    def _draw_head(self, elapsed_s: float, n_running: int) -> list[RenderableType]:
        head = Table.grid(padding=(0, 2))
        head.add_row(
            ProgressBar(total=self.n_trials, completed=self.n_finished, width=16),
            _line(f"{self.n_finished} of {self.n_trials} {self.what}"),
            _line(f"{duration(elapsed_s)} so far" + self._time_left(elapsed_s)),
        )
        n_ended = self.n_ended
        counts = (
            f"{n_ended[TrialState.COMPLETE]} complete, {n_ended[TrialState.PRUNED]} pruned, "
            f"{n_ended[TrialState.FAIL]} failed, {n_running} running"
        )
        return [head, _line(counts)]

    def _draw_best(self) -> list[RenderableType]:
        best = self.best
        if best is None or best.is_repeat:
            return []
        return [
            _line(f"best: trial {best.number}, dev loss {best.dev_loss:.4f}", "bold green"),
            _line(f"      {spec_words(best.spec)}"),
        ]

    def _choose(self, running: list[TrialRecord], n_rows: int) -> list[TrialRecord]:
        """Choose the trials that have room, those nearest to the best, and give each a mark."""
        if n_rows < len(running):
            running = sorted(running, key=self._distance)[:n_rows]
        running = sorted(running, key=lambda record: record.number)
        numbers = {record.number for record in running}
        self._marks = {number: mark for number, mark in self._marks.items() if number in numbers}
        free = [mark for mark in string.ascii_letters if mark not in self._marks.values()]
        for number in sorted(numbers - set(self._marks)):
            self._marks[number] = free.pop(0) if free else " "
        return running

    def _draw_chart(
        self, shown: list[TrialRecord], width: int, n_rows: int, *, is_ascii: bool
    ) -> list[Text]:
        """Draw the curves of the trials shown, behind them the best's."""
        curves = [
            Curve(mark=self._marks[r.number], points=_points(r), style=self._style(r))
            for r in shown
            if r.curve
        ]
        if n_rows < MIN_ROWS or not curves:
            return []
        caption = "dev loss by step"
        if self.best is not None and self.best.curve:
            mark = "." if is_ascii else "·"
            curves.insert(0, Curve(mark=mark, points=_points(self.best), style="green"))
            name = f"{self.best.name}, the lowest" if self.best.is_repeat else "the best"
            caption += f"; {mark} and +/-: {name}, at the same step"
        n_steps = max(*(r.spec.n_steps for r in shown), *(c.points[-1][0] for c in curves))
        frame = Frame(n_steps=n_steps, width=width, height=n_rows, is_ascii=is_ascii)
        chart = draw_chart(curves, frame)
        return [_line(caption, "dim"), *chart] if chart else []

    def _draw_running(self, record: TrialRecord) -> Table:
        row = Table.grid(padding=(0, 1))
        step = record.curve[-1].step if record.curve else 0
        loss = f"{record.dev_loss:.4f}" if record.dev_loss is not None else "  ...  "
        distance = self._distance(record)
        cells: list[RenderableType] = [
            _line(self._marks[record.number], f"bold {self._style(record)}"),
            _line(trial_label(record)),
            ProgressBar(total=max(step, record.spec.n_steps), completed=step, width=10),
            _line(loss),
        ]
        if self.best is not None:
            cells.append(_line(f"{distance:+.4f}" if abs(distance) < _FAR else " " * 7))
        if not record.is_repeat:
            cells.append(_line(spec_words(record.spec), "dim"))
        row.add_row(*cells)
        return row

    def _style(self, record: TrialRecord) -> str:
        mark = self._marks[record.number]
        return _STYLES[string.ascii_letters.find(mark) % len(_STYLES)]

    def _distance(self, record: TrialRecord) -> float:
        """Dev loss above the best's at the same step, in nats; infinite where none is known."""
        if self.best is None or not record.curve:
            return float("inf")
        latest = record.curve[-1]
        at = {segment.step: segment.dev_loss for segment in self.best.curve}
        return latest.dev_loss - at[latest.step] if latest.step in at else float("inf")

    def _time_left(self, elapsed_s: float) -> str:
        if self.n_finished >= self.n_trials and not self.running:
            return f", {self.at_end}"
        n_new = self.n_finished - self.n_before
        if n_new < 1 and not self.running:
            return ", starting"
        if n_new < 1:
            return ""
        left = elapsed_s / n_new * max(0, self.n_trials - self.n_finished)
        return f", about {duration(left)} left"


def _points(record: TrialRecord) -> list[tuple[int, float]]:
    return [(segment.step, segment.dev_loss) for segment in record.curve]


def _line(text: str, style: str = "") -> Text:
    """Give a text that stays on its line."""
    return Text(text, style=style, no_wrap=True, overflow="crop")


@dataclass(frozen=True, slots=True)
class Sized:
    """What is drawn anew for the terminal as it is, whenever it is shown."""

    draw: Callable[[int, int, bool], Iterable[RenderableType]]
    """Takes the terminal's columns and lines, and whether it has ASCII alone."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw it, the bars of rich as well, with the characters that there are."""
        options = options.copy()
        if is_ascii(options):
            options.encoding = "ascii"
        size = options.size
        for part in self.draw(size.width, size.height, options.ascii_only):
            lines = console.render_lines(part, options, pad=False)
            for line in lines:
                yield from line
                yield Segment.line()


def is_ascii(options: ConsoleOptions) -> bool:
    """Whether a terminal shows ASCII alone, by its encoding or by the locale that is set.

    Python writes UTF-8 in the C locale, too; a terminal that somebody has set to it may not read
    it. Where nothing is set, as in most containers, nothing follows.
    """
    locale = next(filter(None, map(os.environ.get, ("LC_ALL", "LC_CTYPE", "LANG"))), "")
    return options.ascii_only or locale in {"C", "POSIX"}
