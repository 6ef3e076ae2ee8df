"""The notes that MLflow shows on the pages of runs and experiments, in Markdown."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from mmsearch.tracking.hyperparameters import shown_columns
from mmsearch.tracking.journal.records import TrialState
from mmsearch.tracking.markdown import block, table
from mmsearch.tracking.mlflow.metrics import DEV_PARTS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mmsearch.tracking.journal.baselines import Baselines
    from mmsearch.tracking.journal.records import TrialRecord

_ROWS = re.compile(r"^\|(?! --- \|).*\|$", re.MULTILINE)
"""Matches the rows of a table, its headings too."""
_PART_TITLES = {"in_train": "dev words also in train", "not_in_train": "dev words not in train"}


def note_tag(note: str) -> dict[str, str]:
    """Return the tag that shows a note on MLflow's page of a run or an experiment.

    MLflow's pages put no space between the columns of a table, so its cells get some.
    """
    spaced = _ROWS.sub(lambda row: row[0].replace(" | ", " &emsp; | "), note)
    return {"mlflow.note.content": spaced}


def figure_link(figure: str, run_id: str) -> str:
    """Return Markdown that shows a figure of a run, whatever the address of the server."""
    return f"![{figure}](get-artifact?path=figures/{figure}.png&run_uuid={run_id})"


def best_note(
    best: TrialRecord, counts: Mapping[TrialState, int], baselines: Baselines | None = None
) -> str:
    """Return the note on the best trial, beside the number of trials and the baselines."""
    note = (
        f"**Best: trial {best.number}, dev loss {best.dev_loss:.4f} nats per character**, of "
        f"{counts[TrialState.COMPLETE]} complete, {counts[TrialState.PRUNED]} pruned and "
        f"{counts[TrialState.FAIL]} failed trials.\n\n{_point(best)}"
    )
    if baselines is None:
        return note
    rows = [(best.name, best.dev_loss or math.nan), *baselines.rows]
    losses = table(("", "dev, nats/char"), [(name, f"{loss:.4f}") for name, loss in rows])
    return f"{note}\n\n{losses}"


def trial_note(record: TrialRecord, study: str, options: str, words: str, run_id: str) -> str:
    """Return the note on a trial that has ended.

    Args:
        record: the trial.
        study: the name of the study.
        options: the options that select it in a command, quoted for a shell.
        words: a description of what it was trained on.
        run_id: its run, which holds its figures.
    """
    assert record.outcome is not None  # noqa: S101 (the trial has ended; for the type checker)
    loss = "" if record.dev_loss is None else f", dev loss {record.dev_loss:.4f} nats per character"
    parts = [f"**{record.name.capitalize()} of {study}: {record.state.lower()}{loss}**"]
    if record.outcome.reason:
        parts.append(block(record.outcome.reason[:1000]))
    parts += [*losses_table(record), _point(record)]
    parts += [f"{record.facts['n_parameters']:,} parameters, trained on {words}."]
    if record.is_repeat:
        parts += ["Trained from a fresh seed by:", block(f"mmsearch confirm{options}")]
    elif record.is_extension:
        command = (
            f"mmsearch extend {record.facts['parent_trial']} --steps {record.spec.n_steps} "
            f"--learning-rate {record.spec.learning_rate}{options}"
        )
        parts += ["Trained on from the weights of that trial by:", block(command)]
    elif record.is_complete:
        commands = (
            f"mmsearch replay {record.number}{options}\n"
            f"mmsearch sample --trial {record.number}{options}\n"
            f"mmsearch export DIR --trial {record.number}{options}"
        )
        parts += ["Train it again and compare, sample words from it, or copy its weights:"]
        parts.append(block(commands))
    if record.is_complete:
        parts += [figure_link(figure, run_id) for figure in ("loss", "embedding")]
    return "\n\n".join(parts)


def losses_table(record: TrialRecord) -> list[str]:
    """Return a table of the model's losses on train, dev and parts of dev.

    Returns:
        One table; none where only the dev loss is known.
    """
    scored = record.scored
    if scored is None or scored.train_loss is None:
        return []
    losses = {"train": scored.train_loss, "dev": scored.dev_loss} | {
        _PART_TITLES[part]: scored.dev_parts[part] for part in DEV_PARTS if part in scored.dev_parts
    }
    rows = [[f"{loss:.4f}" for loss in losses.values()] + [f"{scored.step:,}"]]
    return [table([*losses, "step"], rows)]


def _point(record: TrialRecord) -> str:
    """Return a trial's hyperparameters as a table of one row."""
    columns = shown_columns([record.spec])
    headings = [f"`{column.name}`" for column in columns]
    return table(headings, [[column.text(record.spec, 6) for column in columns]])
