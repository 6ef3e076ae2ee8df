"""A learning-rate range test in MLflow: a run of its own, in the study's experiment."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from mmsearch.tracking.mlflow.client import log_metrics, log_params, set_tags
from mmsearch.tracking.mlflow.metrics import metric
from mmsearch.tracking.mlflow.notes import figure_link, note_tag

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
    """Log a range test; may raise MLflow's errors.

    Args:
        client: the store.
        experiment_id: the experiment of the study.
        tags: tags of the run besides its kind.
        params: hyperparameters besides the learning rate, steps and seeds.
        curve: (learning rate, loss in nats per character) of each step; a loss of None is left out.
        suggested: `low` and `high` of the suggested range; None where there is none.
        figure: a PNG file.

    Returns:
        The id of the run.
    """
    now_ms = time.time_ns() // 1_000_000
    run = client.create_run(
        experiment_id,
        start_time=now_ms,
        run_name="learning-rate range test",
        tags={**tags, "mmsearch.kind": "lr-range"},
    )
    run_id = str(run.info.run_id)
    points = []
    for step, (rate, loss) in enumerate(curve, start=1):
        points.append(metric("learning_rate", rate, now_ms, step))
        if loss is not None:
            points.append(metric("loss/batch", loss, now_ms, step))
    for end, value in (suggested or {}).items():
        points.append(metric(f"suggested_{end}", value, now_ms, 0))
    words = f"lr {suggested['low']:g} to {suggested['high']:g}" if suggested else "nothing"
    note = f"Learning-rate range test; suggested: **{words}**.\n\n{figure_link('lr_range', run_id)}"
    log_params(client, run_id, params)
    set_tags(client, run_id, note_tag(note))
    log_metrics(client, run_id, points)
    client.log_artifact(run_id, str(figure), "figures")
    client.set_terminated(run_id, "FINISHED")
    return run_id
