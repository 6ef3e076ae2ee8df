"""From the journal's records to what MLflow shows of them: points, figures and a note."""

from __future__ import annotations

import math
import re
import shlex
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mmsearch.tracking.hyperparameters import COLUMNS, shown_columns
from mmsearch.tracking.journal.records import TrialState
from mmsearch.tracking.mlflow.curve_axes import has_growing_steps, train_loss
from mmsearch.tracking.mlflow.saved_view import SCORE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from mlflow.entities import Metric

    from mmsearch.tracking.hyperparameters import Column
    from mmsearch.tracking.journal.baselines import Baselines
    from mmsearch.tracking.journal.records import SegmentRecord, TrialRecord

DEV_PARTS = ("in_train", "not_in_train")
"""Parts of dev that are shown: words that also stand in train, and the others."""
_HEADINGS = re.compile(r"^\|.*\|$(?=\n\| --- \|)", re.MULTILINE)
"""Of a table in Markdown."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StudySummary:
    """Where a study stands, for the parent run."""

    trials: Sequence[TrialRecord]
    importances: Mapping[str, float]
    """Share of the variance of the dev loss that each hyperparameter explains alone; empty where
    too few trials are complete."""
    log_axes: frozenset[str]
    """Hyperparameters that are searched on a log scale."""
    is_done: bool
    """Whether all trials that were asked for have finished."""
    candidates: Sequence[tuple[int, float, Sequence[float]]] = ()
    """Of the confirmation, best first: the trial, its dev loss, those of its fresh seeds."""
    remarks: Sequence[str] = ()
    """What is to be known about the best trial's score, Markdown; follows it in the note."""
    sections: Sequence[str] = ()
    """More of the note, Markdown."""
    tags: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    baselines: Baselines | None = None
    """None where they have not been counted."""


def metric(key: str, value: float, timestamp_ms: int, step: int) -> Metric:
    """Make one point of MLflow's."""
    from mlflow.entities import Metric  # noqa: PLC0415 (slow; see store.connect)

    return Metric(key, float(value), timestamp_ms, step)


def curve_metrics(curve: Sequence[SegmentRecord]) -> list[Metric]:
    """Return the points of some segments; a segment's points share the time of its end.

    Segments that version 0.1 recorded have no train loss but that of minibatches, which stands
    under `loss/train`, where that version put it.
    """
    metrics = []
    for record in curve:
        batch = "loss/train" if record.train_loss is None else "loss/batch"
        for step, loss, rate in record.train:
            metrics.append(metric(batch, loss, record.ended_ms, step))
            metrics.append(metric("learning_rate", rate, record.ended_ms, step))
        losses = {"loss/train": record.train_loss} | {
            f"loss/dev_{part}": record.dev_parts.get(part) for part in DEV_PARTS
        }
        # The dev loss comes last: where it has arrived, the whole segment has.
        for key, value in (losses | {"loss/dev": record.dev_loss}).items():
            if value is not None:
                metrics.append(metric(key, value, record.ended_ms, record.step))
    return metrics


def final_metrics(record: TrialRecord, n_characters: int) -> list[Metric]:
    """Return the single values of an ended trial.

    Args:
        record: the trial's.
        n_characters: in the vocabulary; guessing evenly has a loss of ln `n_characters`.
    """
    values = {"n_parameters": record.facts["n_parameters"], "wall_s": record.wall_s}
    step = 0
    if (scored := record.scored) is not None and record.best is not None:
        step = record.curve[-1].step
        values |= {
            "dev_loss": scored.dev_loss,
            "best_dev_loss": record.best.dev_loss,
            "best_step": record.best.step,
            "train_loss": train_loss(scored),
            **{
                f"dev_loss_{part}": scored.dev_parts[part]
                for part in DEV_PARTS
                if part in scored.dev_parts
            },
            "bits_per_char": scored.dev_loss / math.log(2),
            "perplexity": math.exp(min(scored.dev_loss, 700)),
        }
        if record.is_complete and scored.dev_loss <= math.log(n_characters):
            values[SCORE] = scored.dev_loss
    if record.steps_per_s is not None:
        values["steps_per_s"] = record.steps_per_s
    assert record.outcome is not None  # noqa: S101 (the caller's condition, for the type checker)
    return [metric(key, value, record.outcome.ended_ms, step) for key, value in values.items()]


def trial_figures(
    record: TrialRecord, weights: bytes, characters: Sequence[str], folder: Path
) -> list[Path]:
    """Draw a complete trial into a folder; the files."""
    from safetensors.numpy import load  # noqa: PLC0415 (not for --help)

    from mmsearch.tracking.figures import style  # noqa: PLC0415 (matplotlib is slow)
    from mmsearch.tracking.figures.embedding import embedding_scatter  # noqa: PLC0415 (likewise)
    from mmsearch.tracking.figures.study import loss_curve  # noqa: PLC0415

    title = record.name
    batches = [point for segment in record.curve for point in segment.train]
    loss = loss_curve(
        [(step, value) for step, value, _ in batches],
        [(segment.step, segment.dev_loss) for segment in record.curve],
        [(step, rate) for step, _, rate in batches],
        train=[(s.step, s.train_loss) for s in record.curve if s.train_loss is not None],
        scored_step=record.scored.step if record.scored else None,
        title=f"{title}: dev loss {record.dev_loss:.4f}",
        is_averaged=record.spec.averaging != "none",
        has_log_steps=has_growing_steps(record),
    )
    embedding = load(weights)["C"]
    scatter = embedding_scatter(embedding, characters, title=f"{title}: embedding")
    paths = [folder / "loss.png", folder / "embedding.png"]
    for figure, path in zip((loss, scatter), paths, strict=True):
        style.save_png(figure, path)
    return paths


def study_figures(summary: StudySummary, study: str, folder: Path) -> list[Path]:
    """Draw a study into a folder, as far as its trials allow; the files."""
    from mmsearch.tracking.figures import study as figures  # noqa: PLC0415
    from mmsearch.tracking.figures import style  # noqa: PLC0415 (matplotlib is slow)
    from mmsearch.tracking.figures.confirmation import fresh_seeds  # noqa: PLC0415 (likewise)

    drawn = {}
    if summary.candidates:
        title = f"{study}: the best of the search, from fresh seeds"
        drawn["confirmation"] = fresh_seeds(summary.candidates, title=title)
    scored = [trial for trial in summary.trials if trial.dev_loss is not None and trial.outcome]
    if scored:
        drawn["history"] = figures.study_history(
            [(trial.number, trial.dev_loss or math.nan, trial.state) for trial in scored],
            title=f"{study}: history",
            baselines={
                "n-gram" if name == "ngram" else name: loss
                for name, loss in baseline_metrics(summary.baselines).items()
            },
        )
    complete = [trial for trial in scored if trial.is_complete]
    if len(complete) > 1:
        columns = _numbers_that_differ(complete)
        drawn["parallel_coordinates"] = figures.parallel_coordinates(
            [
                ({column.name: column.value(t.spec) for column in columns}, t.dev_loss or math.nan)
                for t in complete
            ],
            log_axes=summary.log_axes,
            title=f"{study}: complete trials",
        )
        drawn["trade_off"] = figures.trade_off(
            [(t.number, t.facts["n_parameters"], t.dev_loss or math.nan) for t in complete],
            title=f"{study}: dev loss against parameters",
        )
    if summary.importances:
        drawn["importance"] = figures.importances(
            summary.importances, title=f"{study}: importance, from {len(complete)} complete trials"
        )
    paths = []
    for name, figure in drawn.items():
        paths.append(folder / f"{name}.png")
        style.save_png(figure, paths[-1])
    return paths


def _numbers_that_differ(trials: Sequence[TrialRecord]) -> list[Column]:
    """Find what a chart of trials has axes for."""
    return [
        column
        for column in COLUMNS
        if len(values := {column.value(trial.spec) for trial in trials}) > 1
        and not any(isinstance(value, str) for value in values)
    ]


def baseline_metrics(baselines: Baselines | None) -> dict[str, float]:
    """Return the dev loss of each baseline by its short name; nothing where they are not known."""
    if baselines is None:
        return {}
    return {"ngram": baselines.ngram, "bigram": baselines.bigram, "uniform": baselines.uniform}


def best_note(
    best: TrialRecord, counts: Mapping[TrialState, int], baselines: Baselines | None = None
) -> str:
    """Say the result in Markdown, with what it is held against."""
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


def _point(record: TrialRecord) -> str:
    """Give a trial's hyperparameters as a table of one row."""
    columns = shown_columns([record.spec])
    headings = [f"`{column.name}`" for column in columns]
    return table(headings, [[column.text(record.spec, 6) for column in columns]])


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Give a table in Markdown."""
    lines = (headings, ["---"] * len(headings), *rows)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def note_tag(note: str) -> dict[str, str]:
    """Give the tag that shows a note, in Markdown, on MLflow's page of a run or an experiment.

    Its pages put no room between a table's columns, so each heading brings some.
    """
    roomy = _HEADINGS.sub(lambda found: found[0].replace(" | ", " &emsp; | "), note)
    return {"mlflow.note.content": roomy}


def trial_note(record: TrialRecord, study: str, words: str, run_id: str) -> str:
    """Say in Markdown how a trial ended, with what, and how to have it again.

    Args:
        record: the trial's, or that of a training from a fresh seed.
        study: its name.
        words: what it was trained on.
        run_id: of its run, which holds its figures.
    """
    assert record.outcome is not None  # noqa: S101 (the caller's condition, for the type checker)
    loss = "" if record.dev_loss is None else f", dev loss {record.dev_loss:.4f} nats per character"
    parts = [f"**{record.name.capitalize()} of {study}: {record.state.lower()}{loss}**"]
    if record.outcome.reason:
        parts.append(block(record.outcome.reason[:1000]))
    parts += [*losses_table(record), _point(record)]
    parts += [f"{record.facts['n_parameters']:,} parameters, trained on {words}."]
    name = shlex.quote(study)
    if record.is_repeat:
        parts += ["Trained from a fresh seed, by:", block(f"mmsearch confirm --study {name}")]
    elif record.is_complete:
        commands = (
            f"mmsearch replay {record.number} --study {name}\n"
            f"mmsearch sample --trial {record.number} --study {name}\n"
            f"mmsearch export DIR --trial {record.number} --study {name}"
        )
        parts += ["Train it again and compare, draw words from it, take its weights:"]
        parts.append(block(commands))
    if record.is_complete:
        parts += [inline(figure, run_id) for figure in ("loss", "embedding")]
    return "\n\n".join(parts)


def losses_table(record: TrialRecord) -> list[str]:
    """Return a table of the losses of a trial's model on train and on parts of dev, as Markdown.

    Returns:
        One table; none where nothing but the dev loss is known.
    """
    scored = record.scored
    if scored is None or scored.train_loss is None:
        return []
    names = {"in_train": "dev words also in train", "not_in_train": "dev words not in train"}
    losses = {"train": scored.train_loss, "dev": scored.dev_loss} | {
        names[part]: scored.dev_parts[part] for part in DEV_PARTS if part in scored.dev_parts
    }
    rows = [[f"{loss:.4f}" for loss in losses.values()] + [f"{scored.step:,}"]]
    return [table([*losses, "step"], rows)]


def block(text: str) -> str:
    """Give a text as Markdown's indented code, in which nothing is a mark."""
    return "\n".join(f"    {line}".rstrip() for line in text.splitlines())


def inline(figure: str, run_id: str) -> str:
    """Show a run's figure in a note, in Markdown, from whatever server shows the note."""
    return f"![{figure}](get-artifact?path=figures/{figure}.png&run_uuid={run_id})"
