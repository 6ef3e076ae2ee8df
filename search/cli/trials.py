"""`mmsearch trials`: list a study's trials, or watch its search from another terminal."""

from __future__ import annotations

import bisect
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

import typer

from mmsearch.counts import counted
from mmsearch.search.cli import options
from mmsearch.search.display.advice import print_baselines, print_warnings
from mmsearch.search.display.console import make_console, print_json
from mmsearch.search.display.format import trial_json, trial_line
from mmsearch.search.display.tables import TableColumn, fitted_table, spec_columns
from mmsearch.search.results.advice import known_baselines
from mmsearch.search.results.selection import read_extensions
from mmsearch.search.study.locks import is_owned
from mmsearch.search.study.study_file import StudyFile
from mmsearch.search.study.workspace import Workspace, options_of
from mmsearch.tracking.journal.records import latest_ms

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.text import Text

    from mmsearch.search.display.live import SearchStatus
    from mmsearch.tracking.journal.journal import Journal
    from mmsearch.tracking.journal.records import TrialRecord

POLL_S = 1.0
"""Seconds between two reads of the journal."""
_STATUS_SHARE = 0.7
"""Share of the terminal's lines that the status may take; the table gets the others."""


def trials(
    *,
    study: options.Study = None,
    workspace: options.Workspace = options.DEFAULT_WORKSPACE,
    limit: Annotated[
        int | None, options.number("Show at most N trials.", "--limit", "-n", default="all", min=1)
    ] = None,
    watch: Annotated[
        bool,
        typer.Option(
            "--watch",
            help="Follow the search until it ends. Without a terminal, print one line for each "
            "ended trial; with --json, one line of JSON.",
        ),
    ] = False,
    as_json: options.Json = False,
) -> None:
    """List a study's trials, best first, or follow its search from another terminal."""
    journal = Workspace.at(workspace).existing(study)
    out = make_console()
    if watch:
        _watch(out, journal, limit, as_json=as_json)
        return
    records = sorted(journal.records(), key=lambda trial: trial.rank)[:limit]
    if as_json:
        extended = read_extensions(journal)
        print_json([trial_json(record, extended) for record in records])
    elif records:
        is_running = is_owned(journal)
        out.print(trials_table(records, is_running=is_running))
        if extended := read_extensions(journal):
            out.print()
            out.print(extensions_table(extended, is_running=is_running))
        baselines = known_baselines(journal)
        print_baselines(out, baselines)
        print_warnings(out, baselines)
    else:
        out.print(
            f"study {journal.name!r} has no trial yet; search with: mmsearch run"
            f"{options_of(journal)}"
        )


def trials_table(records: Sequence[TrialRecord], *, is_running: bool) -> Text:
    """Make a table of trials in at most 80 columns.

    Args:
        records: one for each row.
        is_running: whether the study is being searched; if not, a trial that has not ended is
            shown as stopped.
    """
    columns = [
        TableColumn(heading="trial", cells=[str(r.number) for r in records]),
        *_end_columns(records, is_running=is_running),
        *spec_columns([r.spec for r in records]),
        TableColumn(
            heading="params", cells=[f"{r.facts['n_parameters']:,}" for r in records], rank=1
        ),
        TableColumn(heading="time", cells=[f"{r.wall_s:.1f} s" for r in records]),
    ]
    styles = [None if r.is_complete and not r.excluded else "dim" for r in records]
    return fitted_table(columns, styles, left={"state"})


def extensions_table(records: Sequence[TrialRecord], *, is_running: bool) -> Text:
    """Make a table of the trainings that go on from the weights of trials."""
    columns = [
        TableColumn(heading="extension", cells=[str(r.number) for r in records]),
        TableColumn(heading="of trial", cells=[str(r.facts["parent_trial"]) for r in records]),
        *_end_columns(records, is_running=is_running),
        TableColumn(heading="steps", cells=[f"{r.spec.n_steps:,}" for r in records]),
        TableColumn(heading="lr", cells=[f"{r.spec.learning_rate:.3g}" for r in records]),
        TableColumn(heading="time", cells=[f"{r.wall_s:.1f} s" for r in records]),
    ]
    return fitted_table(
        columns, [None if r.is_complete else "dim" for r in records], left={"state"}
    )


def _end_columns(records: Sequence[TrialRecord], *, is_running: bool) -> list[TableColumn]:
    """Return the columns of how trials ended."""

    def state(record: TrialRecord) -> str:
        is_stopped = record.outcome is None and not is_running
        if record.excluded:
            return "excluded"
        return "stopped" if is_stopped else record.state.lower()

    return [
        TableColumn(heading="state", cells=[state(r) for r in records]),
        TableColumn(
            heading="dev loss",
            cells=["" if r.dev_loss is None else f"{r.dev_loss:.4f}" for r in records],
        ),
    ]


def _watch(out: Console, journal: Journal, limit: int | None, *, as_json: bool) -> None:
    """Show a search until it has ended; an interrupt leaves the search as it is."""
    from rich.live import Live  # noqa: PLC0415 (imports wait for a command)

    from mmsearch.search.display.live import SearchStatus  # noqa: PLC0415 (likewise)

    lock = journal.folder / "lock"  # written when a search begins
    status = SearchStatus(
        StudyFile.require(journal).n_trials,
        at_end="waiting for its process to finish",
        began_s=lock.stat().st_mtime if lock.exists() else time.time(),
    )
    is_drawn = out.is_terminal and not out.is_dumb_terminal and not as_json
    view = _View(status, limit)
    # The alternate screen leaves no remains of a frame drawn for another size.
    live = Live(view, console=out, screen=True)
    try:
        if is_drawn:
            live.start()
        for record in _follow(journal, view):
            if as_json:
                print_json(trial_json(record, read_extensions(journal)), indent=None)
            elif not is_drawn:
                out.print(trial_line(record, is_best=record is status.best))
                out.file.flush()
    except SystemExit:  # by a signal, even one that came while the display started
        live.stop()
        if not as_json:
            out.print("no longer watching; the search is not affected", style="yellow")
        raise
    finally:
        live.stop()
    if is_drawn and view.ended:
        out.print(view.table(limit or 10))
    if not as_json:
        _print_end(out, journal, status)


@dataclass(slots=True)
class _View:
    """The status of a search above its best trials, for the terminal's current size."""

    status: SearchStatus
    limit: int | None
    ended: list[TrialRecord] = field(default_factory=list)
    """Best first; rich reads it from another thread."""

    def table(self, n_rows: int) -> Text:
        """Make a table of the best trials."""
        return trials_table(self.ended[: min(n_rows, self.limit or n_rows)], is_running=True)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw the status, and the trials for which there is room."""
        height, n_rows = options.size.height, min(len(self.ended), self.limit or len(self.ended))
        n_head = 2  # an empty line and the headings
        n_status = max(int(height * _STATUS_SHARE), height - n_head - n_rows)
        lines = self.status.lines(options, n_status)
        yield from lines
        if n_rows and height > len(lines) + n_head:
            yield ""
            table = self.table(height - len(lines) - n_head)
            table.no_wrap, table.overflow = True, "crop"
            yield table


def _follow(journal: Journal, view: _View) -> Iterator[TrialRecord]:
    """Read a journal until no process writes it; yield each trial that has ended."""
    ended: set[int] = set()
    while True:
        is_running = is_owned(journal)  # asked first, so that the last trials are read after it
        view.status.n_trials = StudyFile.require(journal).n_trials
        new = [journal.read(n) for n in journal.numbers() if n not in ended]
        for record in sorted(new, key=latest_ms):
            view.status.update(record)
            if record.outcome is not None:
                ended.add(record.number)
                bisect.insort(view.ended, record, key=lambda trial: trial.rank)
                yield record
        if not is_running:
            return
        time.sleep(POLL_S)


def _print_end(out: Console, journal: Journal, status: SearchStatus) -> None:
    """Print where a search stands that no process is running."""
    standing = f"study {journal.name!r}: {status.n_finished} of {counted(status.n_trials, 'trial')}"
    if status.n_finished >= status.n_trials and not status.running:
        out.print(f"{standing}; its search has ended")
    else:
        out.print(f"{standing}; its search has stopped", style="yellow")
        out.print(f"resume:   mmsearch run --trials {status.n_trials}{options_of(journal)}")
