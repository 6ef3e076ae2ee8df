"""What a person sees of a search as it goes: a live display, or one line a trial."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from mmsearch.search.wording import duration, spec_words, trial_label, trial_line
from mmsearch.tracking.journal import TrialRecord, best_trial

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self


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
    # Noted by the main thread and drawn by Live's, four times a second: no pass over all trials.
    _running: dict[int, TrialRecord] = field(init=False, default_factory=dict)
    _n_ended: Counter[str] = field(init=False, default_factory=Counter)
    _best: TrialRecord | None = field(init=False, default=None)
    _n_before: int = field(init=False)
    _began_s: float = field(init=False, default_factory=time.monotonic)
    _live: Live | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        for record in self.earlier:
            self._note(record)
        self._n_before = self._n_finished

    def __enter__(self) -> Self:
        if self.console.is_terminal and not self.is_quiet:
            self._live = Live(console=self.console, get_renderable=self._draw, refresh_per_second=4)
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
        self._note(record)
        if record.outcome is not None and not self.is_quiet:
            line = trial_line(record, is_best=record is self._best and not record.is_repeat)
            self.console.print(line, soft_wrap=True)

    def say(self, message: str) -> None:
        """Show a line of news that is not a trial's."""
        self.console.print(message, style="yellow", highlight=False, soft_wrap=True)

    def _note(self, record: TrialRecord) -> None:
        if record.outcome is None:
            self._running[record.number] = record
            return
        self._n_ended[record.state] += 1
        self._best = best_trial((record,) if self._best is None else (self._best, record))
        self._running.pop(record.number, None)

    @property
    def _n_finished(self) -> int:
        return self._n_ended["COMPLETE"] + self._n_ended["PRUNED"]

    def _draw(self) -> Group:
        """Draw the state of the search, in 80 columns: a head, the best, a line a worker."""
        n_finished, best = self._n_finished, self._best
        running = list(self._running.values())  # the main thread changes them meanwhile
        head = Table.grid(padding=(0, 2))
        elapsed = time.monotonic() - self._began_s
        head.add_row(
            ProgressBar(total=self.n_trials, completed=n_finished, width=24),
            f"{n_finished} of {self.n_trials} {self.what}",
            f"{duration(elapsed)} so far" + self._time_left(elapsed, n_finished),
        )
        counts = (
            f"{self._n_ended['COMPLETE']} complete, {self._n_ended['PRUNED']} pruned, "
            f"{self._n_ended['FAIL']} failed, {len(running)} running"
        )
        lines: list[Table | Text] = [head, Text(counts)]
        if best is not None and not best.is_repeat:
            lines.append(
                Text(f"best: trial {best.number}, dev loss {best.dev_loss:.4f}", style="bold green")
            )
            lines.append(Text(f"      {spec_words(best.spec)}"))
        lines += [self._draw_running(record) for record in running]
        return Group(*lines)

    def _draw_running(self, record: TrialRecord) -> Table:
        row = Table.grid(padding=(0, 1))
        step = record.curve[-1].step if record.curve else 0
        loss = f"{record.dev_loss:.4f}" if record.dev_loss is not None else "  ...  "
        row.add_row(
            Text(trial_label(record)),
            ProgressBar(total=record.spec["n_steps"], completed=step, width=14),
            Text(loss),
            Text(spec_words(record.spec), style="dim"),
        )
        return row

    def _time_left(self, elapsed_s: float, n_finished: int) -> str:
        if n_finished >= self.n_trials and not self._running:
            return ", MLflow is catching up"
        n_new = n_finished - self._n_before
        if n_new < 1 and not self._running:
            return ", starting"
        if n_new < 1:
            return ""
        left = elapsed_s / n_new * max(0, self.n_trials - n_finished)
        return f", about {duration(left)} left"
