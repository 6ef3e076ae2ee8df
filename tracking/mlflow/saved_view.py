"""The saved view that the MLflow UI opens a study on: a leaderboard and charts that compare.

MLflow keeps views that its users share as tags of the experiment. The format is its own and not
documented: a page that cannot read it shows its usual columns, and nothing is lost.
"""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from typing import Any, Final

from mmsearch.tracking.mlflow.curve_axes import CurveScale

ORDER = "metrics.`dev_loss`"
"""What runs are sorted by, the lowest first."""
_SHAPE = ("embedding_dim", "hidden_width", "block_size")
_COLUMNS = (
    ORDER,
    "metrics.`train_loss`",
    "tags.`mmsearch.state`",
    *(f"params.`{name}`" for name in _SHAPE),
    "params.`learning_rate`",
    "metrics.`n_parameters`",
    "metrics.`wall_s`",
)


_CURVES, _PARALLEL, _EMBEDDINGS, _SCATTER = (
    "Curves",
    "Hyperparameters",
    "Learnt embeddings",
    "Trade-offs",
)
_COLUMNS_A_SECTION = {_CURVES: 2, _PARALLEL: 1, _EMBEDDINGS: 1, _SCATTER: 2}
"""Charts side by side. The page puts sections in the order of their names."""
IMAGE_KEY = "embedding"
"""Of the images that the charts lay side by side."""
SCORE = "score"
"""The metric of parallel coordinates and scatter plots. Their axes cannot be limited, so a trial
that guesses worse than evenly has none: it would flatten all the others."""
_N_RUNS = 100
"""Runs that a chart shows at once."""
_LINE: Final[dict[str, Any]] = {
    "xAxisKey": "step",
    "selectedXAxisMetricKey": "",
    "yAxisKey": "metric",
    "yAxisExpressions": [],
    "scaleType": "linear",
    "lineSmoothness": 0,
    # MLflow would leave out the lowest points, too: the end of each curve, which is the score.
    "ignoreOutliers": False,
    "useGlobalXaxisKey": False,
    "useGlobalLineSmoothing": False,
}


def view_key(study_id: str, kind: str = "trial") -> str:
    """Name a study's view in links; studies of one name share an experiment.

    Args:
        study_id: the study's.
        kind: of the runs in it: `trial`, its leaderboard, or `confirm`.
    """
    return f"mmsearch-{study_id}" if kind == "trial" else f"mmsearch-{study_id}-{kind}"


def run_filter(study_id: str, kind: str = "trial") -> str:
    """Give MLflow's condition for a study's runs of a kind.

    Any condition also takes runs out of their parent's fold.
    """
    return f"tags.`mmsearch.kind` = '{kind}' and tags.`mmsearch.study_id` = '{study_id}'"


def view_tag(
    study_id: str, kind: str = "trial", scale: CurveScale | None = None
) -> tuple[str, str]:
    """Return the experiment tag that holds a study's view: its key and its value.

    Args:
        study_id: the study's.
        kind: of the runs in it: `trial` or `confirm`.
        scale: axes of its loss curves; None to let the page fit them to all points.
    """
    state = {
        "searchFilter": run_filter(study_id, kind),
        "orderByKey": ORDER,
        "orderByAsc": True,
        "selectedColumns": list(_COLUMNS),
        "runsHiddenMode": "SHOW_ALL",
        "compareRunSections": [
            _section(name, n_columns) for name, n_columns in _COLUMNS_A_SECTION.items()
        ],
        "compareRunCharts": _charts(scale),
        "chartsSearchFilter": "",
    }
    if kind == "confirm":
        # A row a candidate, with the mean over its seeds, which unfolds into them.
        state["groupBy"] = {
            "aggregateFunction": "average",
            "groupByKeys": [{"mode": "tag", "groupByData": "mmsearch.trial"}],
        }
    packed = base64.b64encode(zlib.compress(json.dumps(state).encode())).decode()
    name = "leaderboard" if kind == "trial" else "confirmation"
    # Fixed times: the tag is compared at every opening, and written where it differs.
    value = {"name": name, "createdAt": 0, "updatedAt": 0, "state": f"deflate;{packed}"}
    return f"mlflow.sharedViewState.{view_key(study_id, kind)}", json.dumps(value)


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
    """Return the charts, in the order in which they stand in their sections."""
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
            selectedParams=[*_SHAPE, "log10_learning_rate"],
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
