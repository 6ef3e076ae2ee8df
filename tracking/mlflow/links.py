"""Links into the MLflow UI.

A plain link to an experiment opens a page for language-model applications since MLflow 3, and a
run list there folds the trials under their study.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

from mmsearch.tracking.mlflow.charts import ALL_TRIALS, ORDER, run_filter, view_key

if TYPE_CHECKING:
    from collections.abc import Sequence


def leaderboard_url(base: str, experiment_id: str, study_id: str, kind: str = "trial") -> str:
    """Link to the saved view of a study's runs of a kind, sorted by dev loss.

    The link has no filter and no order: they would replace the columns of the view.
    """
    return _runs_url(base, experiment_id, viewStateShareKey=view_key(study_id, kind))


def plain_url(base: str, experiment_id: str, study_id: str) -> str:
    """Link to a study's trials, sorted by dev loss, for an MLflow that cannot read the view."""
    return _runs_url(
        base, experiment_id, searchFilter=run_filter(study_id), orderByKey=ORDER, orderByAsc="true"
    )


def compared_url(base: str, experiment_ids: Sequence[str]) -> str:
    """Link to the trials of several studies, sorted by dev loss."""
    values = {
        "experiments": json.dumps(list(experiment_ids), separators=(",", ":")),
        "workflowType": "machine_learning",
        "searchFilter": ALL_TRIALS,
        "orderByKey": ORDER,
        "orderByAsc": "true",
    }
    return f"{base}/#/compare-experiments/s?{urlencode(values, quote_via=quote, safe='')}"


def charts_url(leaderboard: str) -> str:
    """Link to the charts of the same view as a leaderboard's link."""
    return f"{leaderboard}&compareRunsMode=CHART"


def run_url(base: str, experiment_id: str, run_id: str) -> str:
    """Link to the page of one run."""
    path = "/".join(quote(part, safe="") for part in (experiment_id, "runs", run_id))
    return f"{base}/#/experiments/{path}?workflowType=machine_learning"


def _runs_url(base: str, experiment_id: str, **values: str) -> str:
    values = {"workflowType": "machine_learning", **values}
    query = urlencode(values, quote_via=quote, safe="")
    return f"{base}/#/experiments/{quote(experiment_id, safe='')}/runs?{query}"
