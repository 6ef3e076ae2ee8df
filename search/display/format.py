"""Trials and durations as text and as JSON."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from rich.text import Text

from mmsearch.tracking.hyperparameters import shown_columns
from mmsearch.tracking.journal.records import TrialState

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from mmsearch.model.spec import TrialSpec
    from mmsearch.tracking.journal.records import TrialRecord

_SHORT = {"hidden": "hid", "block": "blk"}


def format_spec(spec: TrialSpec) -> str:
    """Format a trial's hyperparameters in one line."""
    return "  ".join(f"{c.heading} {c.text(spec)}" for c in shown_columns([spec]))


def format_short_spec(spec: TrialSpec) -> str:
    """Format a trial's hyperparameters with fewer digits and shorter names."""
    columns = (replace(column, digits=2) for column in shown_columns([spec]))
    return " ".join(f"{_SHORT.get(c.heading, c.heading)} {c.text(spec)}" for c in columns)


def format_counts(counts: Mapping[TrialState, int]) -> str:
    """Format the number of ended trials in each state."""
    names = {
        TrialState.COMPLETE: "complete",
        TrialState.PRUNED: "pruned",
        TrialState.FAIL: "failed",
    }
    return ", ".join(f"{counts.get(state, 0)} {name}" for state, name in names.items())


def format_duration(seconds: float) -> str:
    """Format a duration in the two largest units, such as `2 min 05 s`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def trial_label(record: TrialRecord) -> str:
    """Return a trial's name, padded so that labels align."""
    if record.is_repeat:
        return f"trial {record.facts['trial']:>3} seed {record.facts['nth_seed']:>2}"
    if record.is_extension:
        return record.name
    return f"trial {record.number:>3}"


def trial_line(record: TrialRecord, *, is_best: bool) -> Text:
    """Return one line about an ended trial: at most 80 columns unless it failed."""
    is_failed = record.state == TrialState.FAIL
    state = "failed" if is_failed else record.state.lower()
    text = Text(f"{trial_label(record)}  {state:<8} ")
    if is_failed and record.outcome is not None:
        return text.append(record.outcome.reason, style="red")
    style = "bold green" if is_best else "" if record.is_complete else "dim"
    text.append(f"{record.dev_loss:.4f}", style=style)
    if not record.is_searched:  # the end of the output has its hyperparameters
        return text
    text.append("* " if is_best else "  ", style=style)
    return text.append(format_short_spec(record.spec), style="dim")


def trial_json(record: TrialRecord, extensions: Iterable[TrialRecord] = ()) -> dict[str, Any]:
    """Return one trial as JSON values.

    Args:
        record: the trial.
        extensions: the trainings that go on from the weights of any trial; those of others are
            left out.
    """
    scored = record.scored
    parts = scored.dev_parts if scored else {}
    return {
        "trial": record.number,
        "state": record.state,
        "reason": record.outcome.reason if record.outcome else "",
        "excluded": record.excluded,
        "dev_loss": record.dev_loss,
        "train_loss": scored.train_loss if scored else None,
        "dev_loss_in_train": parts.get("in_train"),
        "dev_loss_not_in_train": parts.get("not_in_train"),
        "scored_step": scored.step if scored else None,
        "best_dev_loss": record.best.dev_loss if record.best else None,
        "best_step": record.best.step if record.best else None,
        "step": record.curve[-1].step if record.curve else 0,
        "n_parameters": record.facts["n_parameters"],
        "wall_s": round(record.wall_s, 3),
        "spec": record.spec.to_json(),
        "extensions": [
            extension_json(other)
            for other in extensions
            if other.facts["parent_trial"] == record.number
        ],
    }


def extension_json(record: TrialRecord) -> dict[str, Any]:
    """Return one training that goes on from the weights of a trial as JSON values."""
    return {
        "extension": record.number,
        "parent_trial": record.facts["parent_trial"],
        "state": record.state,
        "reason": record.outcome.reason if record.outcome else "",
        "dev_loss": record.dev_loss,
        "step": record.curve[-1].step if record.curve else 0,
        "wall_s": round(record.wall_s, 3),
        "spec": record.spec.to_json(),
    }
