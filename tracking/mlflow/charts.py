"""The saved view of a study in the MLflow UI: the leaderboard and the charts.

MLflow keeps shared views in tags of the experiment. Their format is its own and not documented; a
page that cannot read one shows its usual columns.
"""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from typing import TYPE_CHECKING, Any, Final

from mmsearch.tracking.hyperparameters import ALWAYS_SHOWN
from mmsearch.tracking.mlflow.curve_axes import CurveScale

if TYPE_CHECKING:
    from collections.abc import Sequence

ORDER = "metrics.`dev_loss`"
"""Sort key of the runs, the lowest first."""
_COLUMNS = (
    ORDER,
    "tags.`mmsearch.state`",
    *(f"params.`{name}`" for name in ALWAYS_SHOWN),
)
_CURVES, _PARALLEL = "Curves", "Hyperparameters"
_EMBEDDINGS, _SCATTER = "Learnt embeddings", "Trade-offs"
_COLUMNS_A_SECTION = {_CURVES: 2, _PARALLEL: 1, _EMBEDDINGS: 1, _SCATTER: 2}
"""Number of charts side by side in each section; the page sorts the sections by name."""
IMAGE_KEY = "embedding"
"""Key of the images that the charts show side by side."""
SCORE = "score"
"""Metric of the parallel coordinates and scatter plots. Their axes cannot be limited, so a trial
that is worse than a uniform guess has none: it would flatten all the others."""
ALL_TRIALS = "tags.`mmsearch.kind` = 'trial'"
"""MLflow's condition for the trials of any study."""
_USUAL: Final[dict[str, Any]] = {
    "startTime": "ALL",
    "lifecycleFilter": "Active",
    "datasetsFilter": [],
    "modelVersionFilter": "All Runs",
    "columnOrder": [],
    "columnWidths": {},
    "runsExpanded": {},
    "runsPinned": [],
    "runsHidden": [],
    "runsVisibilityMap": {},
    "viewMaximized": False,
    "runListHidden": False,
    "isAccordionReordered": False,
    "useGroupedValuesInCharts": True,
    "hideEmptyCharts": True,
    "groupBy": None,
    "groupsExpanded": {},
    "autoRefreshEnabled": True,
    "globalLineChartConfig": {
        "xAxisKey": "step",
        "lineSmoothness": 0,
        "selectedXAxisMetricKey": "",
    },
}
"""What the page expects of a state in its own storage."""
_N_RUNS = 100
"""Runs in each chart."""
_LINE: Final[dict[str, Any]] = {
    "xAxisKey": "step",
    "selectedXAxisMetricKey": "",
    "yAxisKey": "metric",
    "yAxisExpressions": [],
    "scaleType": "linear",
    "lineSmoothness": 0,
    # MLflow would also leave out the lowest points, which are the scores.
    "ignoreOutliers": False,
    "useGlobalXaxisKey": False,
    "useGlobalLineSmoothing": False,
}


def view_key(study_id: str, kind: str = "trial") -> str:
    """Return the key of a study's view in links, for runs of a journal's kind."""
    return f"mmsearch-{study_id}" if kind == "trial" else f"mmsearch-{study_id}-{kind}"


def run_filter(study_id: str, kind: str = "trial") -> str:
    """Return MLflow's condition for a study's runs of a kind.

    With any condition, the page shows child runs on the same level as their parent.
    """
    return f"tags.`mmsearch.kind` = '{kind}' and tags.`mmsearch.study_id` = '{study_id}'"


def view_tag(
    study_id: str, kind: str = "trial", scale: CurveScale | None = None
) -> tuple[str, str]:
    """Return the experiment tag that holds a study's view: its key and its value.

    Args:
        study_id: the study.
        kind: kind of the runs: `trial`, `confirm` or `extend`.
        scale: axes of the loss curves; None to let the page fit them to all points.
    """
    state = _state(run_filter(study_id, kind), scale)
    if kind == "confirm":
        # One row per candidate, with the mean over its seeds.
        state["groupBy"] = {
            "aggregateFunction": "average",
            "groupByKeys": [{"mode": "tag", "groupByData": "mmsearch.trial"}],
        }
    packed = base64.b64encode(zlib.compress(json.dumps(state).encode())).decode()
    name = {"trial": "leaderboard", "confirm": "confirmation", "extend": "extensions"}[kind]
    # Fixed times, since the tag is written where it differs from the one before.
    value = {"name": name, "createdAt": 0, "updatedAt": 0, "state": f"deflate;{packed}"}
    return f"mlflow.sharedViewState.{view_key(study_id, kind)}", json.dumps(value)


def compared_view(experiment_ids: Sequence[str]) -> tuple[str, str]:
    """Return the view of several studies together: its key in the page's own storage, and itself.

    MLflow shares no view between experiments, so that each browser has to be given it.
    """
    state = _state(ALL_TRIALS, None, ("tags.`mmsearch.study`",))
    ids = json.dumps(list(experiment_ids), separators=(",", ":"))
    key = f"MLflowLocalStorage-1.1-ExperimentPage-{ids}-ReactComponentState"
    return key, json.dumps({**_USUAL, **state})


def _state(condition: str, scale: CurveScale | None, columns: Sequence[str] = ()) -> dict[str, Any]:
    """Return the state of a page that shows the runs that meet a condition.

    Args:
        condition: MLflow's condition.
        scale: axes of the loss curves; None to let the page fit them to all points.
        columns: columns before the usual ones.
    """
    return {
        "searchFilter": condition,
        "orderByKey": ORDER,
        "orderByAsc": True,
        "selectedColumns": [*columns, *_COLUMNS],
        "runsHiddenMode": "SHOW_ALL",
        "compareRunSections": [
            _section(name, n_columns) for name, n_columns in _COLUMNS_A_SECTION.items()
        ],
        "compareRunCharts": _charts(scale),
        "chartsSearchFilter": "",
    }


def read_scale(value: str | None) -> CurveScale | None:
    """Return the axes of the loss curves in a view's tag; None where it has none or is damaged."""
    try:
        packed = json.loads(value or "")["state"].partition(";")[2]
        state = json.loads(zlib.decompress(base64.b64decode(packed)))
        curves = next(chart for chart in state["compareRunCharts"] if chart["type"] == "LINE")
        return CurveScale(
            low=float(curves["range"]["yMin"]),
            high=float(curves["range"]["yMax"]),
            has_log_steps=curves["xAxisScaleType"] == "log",
        )
    except (ValueError, TypeError, KeyError, AttributeError, StopIteration, zlib.error):
        return None


def _axis(name: str) -> str:
    """Return the parameter for an axis: the charts have no logarithmic axes of their own."""
    return "log10_learning_rate" if name == "learning_rate" else name


def _section(name: str, n_columns: int) -> dict[str, Any]:
    return {
        "uuid": name,
        "name": name,
        "display": True,
        "isReordered": True,
        "deleted": False,
        "isGenerated": False,
        "columns": n_columns,
        "cardHeight": 420,
    }


def _charts(scale: CurveScale | None) -> list[dict[str, Any]]:
    """Return the charts, in their order in the sections."""
    axes: dict[str, Any] = {"xAxisScaleType": "linear"}
    if scale is not None:
        axes["xAxisScaleType"] = "log" if scale.has_log_steps else "linear"
        axes["range"] = {"yMin": scale.low, "yMax": scale.high}
    return [
        *(
            _chart("LINE", _CURVES, metricKey=key, selectedMetricKeys=[key], **axes, **_LINE)
            for key in ("loss/dev", "loss/train")
        ),
        _chart(
            "PARALLEL",
            _PARALLEL,
            selectedParams=[_axis(name) for name in ALWAYS_SHOWN],
            selectedMetrics=[SCORE],
            showAllRuns=False,
        ),
        _chart(
            "SCATTER",
            _SCATTER,
            xaxis={"key": "log10_learning_rate", "type": "PARAM"},
            yaxis={"key": SCORE, "type": "METRIC"},
        ),
        _chart(
            "SCATTER",
            _SCATTER,
            xaxis={"key": "n_parameters", "type": "METRIC"},
            yaxis={"key": SCORE, "type": "METRIC"},
        ),
        _chart("IMAGE", _EMBEDDINGS, imageKeys=[IMAGE_KEY], step=0, showRunParams=False),
    ]


def _chart(kind: str, section: str, **fields: Any) -> dict[str, Any]:
    key = json.dumps([kind, section, fields], sort_keys=True)
    return {
        "type": kind,
        "uuid": hashlib.sha256(key.encode()).hexdigest()[:20],
        "metricSectionId": section,
        "runsCountToCompare": _N_RUNS,
        "deleted": False,
        "isGenerated": False,
        **fields,
    }
