"""A learning-rate range test in MLflow: a run of its own, in the study's experiment."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from mmsearch.tracking.mlflow.client import log_metrics
from mmsearch.tracking.mlflow.notes import inline, metric, note_tag

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from mlflow import MlflowClient


def write(  # noqa: PLR0913 (what a run holds)
    client: MlflowClient,
    experiment_id: str,
    *,
    tags: Mapping[str, str],
    params: Mapping[str, Any],
    curve: Sequence[tuple[float, float | None]],
    suggested: Mapping[str, float] | None,
    figure: Path,
) -> str:
    """Log a test. May raise MLflow's errors.

    Args:
        client: of `store.connect`.
        experiment_id: the study's.
        tags: more than its kind.
        params: hyperparameters besides the rate, steps, seeds.
        curve: learning rate and loss of each step, in nats a character; a loss of None is left out.
        suggested: `low` and `high`, None where nothing is suggested.
        figure: a PNG file.

    Returns:
        The run's id.
    """
    from mlflow.entities import Param, RunTag  # noqa: PLC0415 (slow; see store.connect)

    now_ms = time.time_ns() // 1_000_000
    told = f"lr {suggested['low']:g} to {suggested['high']:g}" if suggested else "nothing"
    run = client.create_run(
        experiment_id,
        start_time=now_ms,
        run_name="learning-rate range test",
        tags={
            **tags,
            "mmsearch.kind": "lr-range",
        },
    )
    run_id = str(run.info.run_id)
    note = f"Learning-rate range test; suggested: **{told}**.\n\n{inline('lr_range', run_id)}"
    points = []
    for step, (rate, loss) in enumerate(curve, start=1):
        points.append(metric("learning_rate", rate, now_ms, step))
        if loss is not None:
            points.append(metric("loss/batch", loss, now_ms, step))
    for end, value in (suggested or {}).items():
        points.append(metric(f"suggested_{end}", value, now_ms, 0))
    client.log_batch(
        run_id,
        params=[Param(key, str(value)) for key, value in params.items()],
        tags=[RunTag(key, value) for key, value in note_tag(note).items()],
    )
    log_metrics(client, run_id, points)
    client.log_artifact(run_id, str(figure), "figures")
    client.set_terminated(run_id, "FINISHED")
    return run_id
