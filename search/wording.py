"""How a trial, its hyperparameters and a time are said in a line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from mmsearch.tracking.journal import TrialRecord


def spec_words(spec: Mapping[str, Any]) -> str:
    """Say a trial's hyperparameters in one short line."""
    words = (
        f"emb {spec['embedding_dim']}  hidden {spec['hidden_width']}  "
        f"block {spec['block_size']}  lr {spec['learning_rate']:.3g}"
    )
    return f"{words}  wd {spec['weight_decay']:.1e}" if spec["weight_decay"] else words


def duration(seconds: float) -> str:
    """Say a time as a person would."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def trial_line(record: TrialRecord, *, is_best: bool) -> Text:
    """Say how one trial ended; at most 80 columns, but for a failure's reason."""
    state = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}[record.state]
    text = Text(f"{trial_label(record)}  {state:<8} ")
    if record.state == "FAIL" and record.outcome is not None:
        return text.append(record.outcome.reason, style="red")
    loss = f"{record.dev_loss:.4f}{'*' if is_best else ' '} "
    style = "bold green" if is_best else "" if record.state == "COMPLETE" else "dim"
    text.append(loss, style=style)
    # The table at the end has a candidate's hyperparameters, and this line no room for them.
    return text if record.is_repeat else text.append(spec_words(record.spec), style="dim")


def trial_label(record: TrialRecord) -> str:
    """Name a trial in a column."""
    if record.is_repeat:
        return f"trial {record.facts['trial']:>3} seed {record.facts['nth_seed']:>2}"
    return f"trial {record.number:>3}"
