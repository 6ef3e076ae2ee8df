"""The live display of a search: counts, the best trial, and one row for each running trial.

`run` and `confirm` draw it below the lines of the trials that have ended; `trials --watch` draws
it above a table. If stdout is not a terminal, only the lines of the ended trials are printed.
"""

from __future__ import annotations

import os
import statistics
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rich.live import Live
from rich.text import Text

from mmsearch.search.display.format import (
    format_counts,
    format_duration,
    format_short_spec,
    format_spec,
    trial_label,
    trial_line,
)
from mmsearch.tracking.journal.records import TrialRecord, TrialState, best_trial

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from types import TracebackType
    from typing import Self

    from rich.console import Console, ConsoleOptions, RenderResult

_SPARKS, _ASCII_SPARKS = "▁▂▃▄▅▆▇█", "_.:-=+*#"
_SPARK_WIDTH = 16
"""Columns of a sparkline."""
_LOG_LINES = 4
"""Lines of the terminal reserved for the output above the display."""


@dataclass(slots=True)
class SearchStatus:
    """Where a search stands, updated trial by trial."""

    n_trials: int
    """Number of finished trials at which the search ends."""
    noun: str = "trials"
    """Noun for the finished trials."""
    at_end: str = "uploading results"
    """Text shown after all trials have finished."""
    began_s: float = field(default_factory=time.time)
    """Unix time at which the search began."""
    best: TrialRecord | None = None
    """The complete trial with the lowest dev loss."""
    running: dict[int, TrialRecord] = field(default_factory=dict)
    counts: Counter[TrialState] = field(default_factory=Counter)
    """Ended trials by state."""
    n_before: int = 0
    """Finished trials that had ended before the search began."""

    def update(self, record: TrialRecord) -> None:
        """Take in a trial's latest state; its end comes once, and last."""
        if record.outcome is None:
            self.running[record.number] = record
            return
        self.running.pop(record.number, None)
        self.counts[record.state] += 1
        self.best = best_trial((record,) if self.best is None else (self.best, record))
        if record.state != TrialState.FAIL and record.outcome.ended_ms < self.began_s * 1000:
            self.n_before += 1

    @property
    def n_finished(self) -> int:
        """Number of complete and pruned trials."""
        return self.counts[TrialState.COMPLETE] + self.counts[TrialState.PRUNED]

    def lines(self, options: ConsoleOptions, n_lines: int) -> list[Text]:
        """Draw the status in at most `n_lines`; count the running trials that do not fit."""
        running = sorted(self.running.values(), key=lambda record: record.number)
        elapsed_s = max(0.0, time.time() - self.began_s)
        times = f"{format_duration(elapsed_s)} so far{self._time_left(elapsed_s)}"
        lines = [
            f"{self.n_finished} of {self.n_trials} {self.noun}, {times}",
            f"{format_counts(self.counts)}, {len(running)} running",
        ]
        if self.best is not None and self.best.is_searched:
            lines += [
                f"best: trial {self.best.number}, dev loss {self.best.dev_loss:.4f}",
                f"  {format_spec(self.best.spec)}",
            ]
        n_rows = n_lines - len(lines)
        shown = running if len(running) <= n_rows else running[: max(0, n_rows - 1)]
        sparks = _ASCII_SPARKS if is_ascii(options) else _SPARKS
        lines += _rows(shown, sparks)
        if len(shown) < len(running):
            lines.append(f"and {len(running) - len(shown)} more running")
        return [
            Text(
                line,
                style="bold green" if line.startswith("best:") else "",
                no_wrap=True,
                overflow="crop",
            )
            for line in lines[: max(1, n_lines)]
        ]

    def _time_left(self, elapsed_s: float) -> str:
        if self.n_finished >= self.n_trials and not self.running:
            return f", {self.at_end}"
        n_new = self.n_finished - self.n_before
        if n_new < 1:
            return "" if self.running else ", starting"
        left_s = elapsed_s / n_new * max(0, self.n_trials - self.n_finished)
        return f", about {format_duration(left_s)} left"


def _rows(records: Sequence[TrialRecord], sparks: str) -> Iterable[str]:
    """Yield a row for each running trial; all sparklines have the same scale."""
    curves = [[segment.dev_loss for segment in record.curve] for record in records]
    first = [curve[0] for curve in curves if curve]
    low = min((min(curve) for curve in curves if curve), default=0.0)
    # One trial with a very high loss must not flatten the others.
    high = statistics.median(first) if first else 0.0
    for record, curve in zip(records, curves, strict=True):
        loss = f"{record.dev_loss:.4f}" if record.dev_loss is not None else ""
        step = record.curve[-1].step if record.curve else 0
        spec = format_short_spec(record.spec) if record.is_searched else ""
        spark = sparkline(curve, low, high, sparks)
        yield f"{trial_label(record)}  {spark:<{_SPARK_WIDTH}} {loss:>7}  step {step:>7,}  {spec}"


def sparkline(losses: Sequence[float], low: float, high: float, sparks: str = _SPARKS) -> str:
    """Draw losses as characters from `sparks[0]` at `low` to `sparks[-1]` at `high`.

    Losses beyond either end are drawn as that end. Of more than 16 losses, 16 are drawn, the
    last one among them.
    """
    stride = max(1.0, len(losses) / _SPARK_WIDTH)
    picked = [losses[-1 - int(n * stride)] for n in range(min(len(losses), _SPARK_WIDTH))][::-1]
    span = high - low
    shares = (min(max((loss - low) / span, 0.0), 1.0) if span > 0 else 0.0 for loss in picked)
    return "".join(sparks[round(share * (len(sparks) - 1))] for share in shares)


def is_ascii(options: ConsoleOptions) -> bool:
    """Return whether a terminal shows only ASCII, by its encoding or by the C locale.

    Python writes UTF-8 in the C locale, too, but a terminal that is set to it may not read UTF-8.
    """
    locale = next(filter(None, map(os.environ.get, ("LC_ALL", "LC_CTYPE", "LANG"))), "")
    return options.ascii_only or locale in {"C", "POSIX"}


class LiveDisplay:
    """Shows the trials of a job as they go; a context manager and an observer.

    The main thread updates it, and rich draws it from a thread of its own.
    """

    def __init__(
        self,
        console: Console,
        n_trials: int,
        earlier: Iterable[TrialRecord] = (),
        *,
        is_quiet: bool = False,
        noun: str = "trials",
    ) -> None:
        """Create the display with the trials that ended earlier; `is_quiet`: only messages."""
        self._console = console
        self._is_quiet = is_quiet
        self._status = SearchStatus(n_trials, noun)
        for record in earlier:
            self._status.update(record)
        self._live = Live(self, console=console, refresh_per_second=4, transient=True)

    def __enter__(self) -> Self:
        if self._console.is_terminal and not self._is_quiet:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.stop()

    def show(self, record: TrialRecord) -> None:
        """Take in a trial's latest state, and print a line once it has ended."""
        self._status.update(record)
        if record.outcome is not None and not self._is_quiet:
            is_best = record is self._status.best and record.is_searched
            self._console.print(trial_line(record, is_best=is_best), soft_wrap=True)

    def say(self, message: str) -> None:
        """Print a message above the display."""
        self._console.print(message, style="yellow", highlight=False, soft_wrap=True)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw the status for the terminal's current size."""
        yield from self._status.lines(options, options.size.height - _LOG_LINES)
