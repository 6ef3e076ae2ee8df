"""How a trial, its hyperparameters and a time are said in a line."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from rich.text import Text

from mmsearch.search.display.tables import WIDTH
from mmsearch.tracking.hyperparameters import shown_columns
from mmsearch.tracking.journal.records import TrialState

if TYPE_CHECKING:
    from mmsearch.model.spec import TrialSpec
    from mmsearch.tracking.journal.records import TrialRecord


def spec_words(spec: TrialSpec) -> str:
    """Say a trial's hyperparameters in one short line."""
    columns = shown_columns([spec])
    return "  ".join(f"{column.heading} {column.text(spec)}" for column in columns)


def short_spec_words(spec: TrialSpec) -> str:
    """Say the same in fewer characters, as the rest of a line."""
    short = {"hidden": "hid", "block": "blk"}
    columns = (replace(column, digits=2) for column in shown_columns([spec]))
    return " ".join(f"{short.get(c.heading, c.heading)} {c.text(spec)}" for c in columns)


def duration(seconds: float) -> str:
    """Say a time as a person would."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def trial_line(record: TrialRecord, *, is_best: bool) -> Text:
    """Say how one trial ended; at most 80 columns, but for a failure's reason."""
    state = "failed" if record.state == TrialState.FAIL else record.state.lower()
    text = Text(f"{trial_label(record)}  {state:<8} ")
    if record.state == TrialState.FAIL and record.outcome is not None:
        return text.append(record.outcome.reason, style="red")
    loss = f"{record.dev_loss:.4f}{'*' if is_best else ' '} "
    style = "bold green" if is_best else "" if record.is_complete else "dim"
    text.append(loss, style=style)
    # The table at the end has a candidate's hyperparameters, and this line no room for them.
    if record.is_repeat:
        return text
    words = spec_words(record.spec)
    if len(text) + len(words) > WIDTH:
        words = short_spec_words(record.spec)
    return text.append(words, style="dim")


def trial_label(record: TrialRecord) -> str:
    """Name a trial in a column."""
    if record.is_repeat:
        return f"trial {record.facts['trial']:>3} seed {record.facts['nth_seed']:>2}"
    return f"trial {record.number:>3}"
