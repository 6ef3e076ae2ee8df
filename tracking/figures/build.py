"""From the records of the journal to the figures of a trial and of a study, as files."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from safetensors.numpy import load

from mmsearch.tracking.figures import study as figures
from mmsearch.tracking.figures import style
from mmsearch.tracking.figures.confirmation import confirmation
from mmsearch.tracking.figures.embedding import embedding_scatter
from mmsearch.tracking.figures.loss_curve import loss_curve
from mmsearch.tracking.hyperparameters import COLUMNS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from matplotlib.figure import Figure

    from mmsearch.tracking.hyperparameters import Column
    from mmsearch.tracking.journal.records import TrialRecord
    from mmsearch.tracking.study_summary import StudySummary


def trial_figures(
    record: TrialRecord,
    weights: bytes,
    characters: Sequence[str],
    folder: Path,
    form: style.Format = "png",
) -> list[Path]:
    """Draw a trial that has weights.

    Args:
        record: the trial.
        weights: its weights file.
        characters: what the rows of its embedding stand for.
        folder: where to write.
        form: file format.

    Returns:
        The paths of `loss` and `embedding`, with the suffix of the format.
    """
    batches = [point for segment in record.curve for point in segment.train]
    loss = loss_curve(
        [(step, value) for step, value, _ in batches],
        [(segment.step, segment.dev_loss) for segment in record.curve],
        [(step, rate) for step, _, rate in batches],
        train=[(s.step, s.train_loss) for s in record.curve if s.train_loss is not None],
        scored_step=record.scored.step if record.scored else None,
        title=f"{record.name}: dev loss {record.dev_loss:.4f}",
        is_averaged=record.spec.averaging != "none",
        has_log_steps=record.spec.evaluations == "growing",
    )
    title = f"{record.name}: embedding"
    embedding = embedding_scatter(load(weights)["C"], characters, title=title)
    return _save({"loss": loss, "embedding": embedding}, folder, form)


def study_figures(
    summary: StudySummary, study: str, folder: Path, form: style.Format = "png"
) -> list[Path]:
    """Draw a study, as far as its trials allow.

    Args:
        summary: where the study stands.
        study: its name.
        folder: where to write.
        form: file format.

    Returns:
        The paths of some of `confirmation`, `history`, `parallel_coordinates`, `trade_off` and
        `importance`, with the suffix of the format.
    """
    drawn = {}
    if summary.candidates:
        title = f"{study}: the best of the search, from fresh seeds"
        drawn["confirmation"] = confirmation(summary.candidates, title=title)
    ended = [
        trial
        for trial in summary.trials
        if trial.dev_loss is not None and trial.outcome and not trial.excluded
    ]
    if ended:
        drawn["history"] = figures.study_history(
            [(trial.number, trial.dev_loss or math.nan, trial.state) for trial in ended],
            title=f"{study}: history",
            baselines=_baselines(summary),
        )
    complete = [trial for trial in ended if trial.is_complete]
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
    if shares := summary.importances():
        drawn["importance"] = figures.importances(
            shares, title=f"{study}: importance, from {len(complete)} complete trials"
        )
    return _save(drawn, folder, form)


def _baselines(summary: StudySummary) -> dict[str, float]:
    losses = summary.baselines.losses if summary.baselines else {}
    return {name.replace("ngram", "n-gram"): loss for name, loss in losses.items()}


def _save(drawn: Mapping[str, Figure], folder: Path, form: style.Format) -> list[Path]:
    paths = [folder / f"{name}.{form}" for name in drawn]
    for figure, path in zip(drawn.values(), paths, strict=True):
        style.save_figure(figure, path, form)
    return paths


def _numbers_that_differ(trials: Sequence[TrialRecord]) -> list[Column]:
    """Return the columns with numbers that differ between trials."""
    return [
        column
        for column in COLUMNS
        if len(values := {column.value(trial.spec) for trial in trials}) > 1
        and not any(isinstance(value, str) for value in values)
    ]
