"""From the records of the journal to MLflow's metrics."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from mmsearch.tracking.mlflow.charts import SCORE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlflow.entities import Metric

    from mmsearch.tracking.journal.records import SegmentRecord, TrialRecord

DEV_PARTS = ("in_train", "not_in_train")
"""Parts of dev with metrics of their own: words that also stand in train, and the others."""


MAX_LOSS = 100.0
"""Dev loss of a training that has diverged, whatever its end, in nats per character; as a result it
would hide the others in a chart."""


def metric(key: str, value: float, timestamp_ms: int, step: int) -> Metric:
    """Return one point of a metric."""
    from mlflow.entities import Metric  # noqa: PLC0415 (slow; see client.connect)

    return Metric(key, float(value), timestamp_ms, step)


def curve_metrics(curve: Sequence[SegmentRecord]) -> list[Metric]:
    """Return the points of segments; all points of a segment have the time of its end.

    Version 0.1 recorded only the train loss of minibatches, and logged it as `loss/train`.
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
    """Return the single values of a trial that has ended.

    Args:
        record: the trial.
        n_characters: size of the vocabulary; a uniform guess has the loss ln `n_characters`.
    """
    values = {"n_parameters": record.facts["n_parameters"], "wall_s": record.wall_s}
    step = 0
    if (scored := record.scored) is not None and record.best is not None:
        step = record.curve[-1].step
        if record.best.dev_loss < MAX_LOSS:
            values |= {"best_dev_loss": record.best.dev_loss, "best_step": record.best.step}
        if scored.dev_loss < MAX_LOSS:
            values |= {
                "dev_loss": scored.dev_loss,
                "train_loss": scored.latest_train_loss,
                **{
                    f"dev_loss_{part}": scored.dev_parts[part]
                    for part in DEV_PARTS
                    if part in scored.dev_parts
                },
                "bits_per_char": scored.dev_loss / math.log(2),
            }
        # Above the loss of a uniform guess, a score or its exponential would hide those of others.
        if scored.dev_loss <= math.log(n_characters):
            values["perplexity"] = math.exp(scored.dev_loss)
            if record.is_complete:
                values[SCORE] = scored.dev_loss
    if record.steps_per_s is not None:
        values["steps_per_s"] = record.steps_per_s
    assert record.outcome is not None  # noqa: S101 (the trial has ended; for the type checker)
    return [metric(key, value, record.outcome.ended_ms, step) for key, value in values.items()]
