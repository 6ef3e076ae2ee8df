"""The saved view of a study in the MLflow UI, and the links that open it."""

from __future__ import annotations

import base64
import json
import zlib
from typing import Any
from urllib.parse import parse_qs

import pytest

from mmsearch.tracking.mlflow.charts import read_scale, view_key, view_tag
from mmsearch.tracking.mlflow.curve_axes import CurveScale
from mmsearch.tracking.mlflow.links import leaderboard_url, run_url

SCALES = [CurveScale(low=1.9, high=2.75, has_log_steps=log) for log in (True, False)]


def unpacked(value: str) -> dict[str, Any]:
    """Read the state of a view's tag, which MLflow deflates and writes in base64."""
    kind, _, packed = json.loads(value)["state"].partition(";")
    assert kind == "deflate"
    state: dict[str, Any] = json.loads(zlib.decompress(base64.b64decode(packed)))
    return state


def test_view_is_a_leaderboard_of_the_trials_of_one_study() -> None:
    key, value = view_tag("7f")
    state = unpacked(value)

    assert key == f"mlflow.sharedViewState.{view_key('7f')}"
    assert (state["orderByKey"], state["orderByAsc"]) == ("metrics.`dev_loss`", True)
    assert state["searchFilter"] == (
        "tags.`mmsearch.kind` = 'trial' and tags.`mmsearch.study_id` = '7f'"
    )
    names = ("embedding_dim", "hidden_width", "block_size", "learning_rate")
    assert {f"params.`{name}`" for name in names} < set(state["selectedColumns"])
    assert state["runsHiddenMode"] == "SHOW_ALL"
    # Else every command would write it again.
    assert view_tag("7f") == view_tag("7f") != view_tag("8a")


@pytest.mark.parametrize("scale", SCALES)
def test_charts_show_whole_curves_on_the_scale_of_the_study(scale: CurveScale) -> None:
    """Each chart has a section that exists, and a name of its own."""
    state = unpacked(view_tag("7f", scale=scale)[1])

    charts = state["compareRunCharts"]
    sections = {section["uuid"] for section in state["compareRunSections"]}
    assert {chart["metricSectionId"] for chart in charts} == sections
    assert len({chart["uuid"] for chart in charts}) == len(charts)
    curves = [chart for chart in charts if chart["type"] == "LINE"]
    assert [chart["metricKey"] for chart in curves] == ["loss/dev", "loss/train"]
    for chart in curves:
        assert chart["range"] == {"yMin": 1.9, "yMax": 2.75}
        assert chart["xAxisScaleType"] == ("log" if scale.has_log_steps else "linear")
        assert not chart["ignoreOutliers"]


@pytest.mark.parametrize("scale", [None, *SCALES])
def test_scale_is_read_back(scale: CurveScale | None) -> None:
    assert read_scale(view_tag("7f", scale=scale)[1]) == scale


@pytest.mark.parametrize(
    "value", [None, "", "of another format", "[]", "{}", '{"state": "deflate;eJw="}', '{"state":1}']
)
def test_damaged_view_has_no_scale_and_is_no_error(value: str | None) -> None:
    assert read_scale(value) is None


def test_links_open_the_view_and_a_run_and_not_an_empty_page() -> None:
    """Without the workflow type MLflow opens its page for language-model applications."""
    path, query = leaderboard_url("http://127.0.0.1:5000", "7", "1f").split("?")

    assert path == "http://127.0.0.1:5000/#/experiments/7/runs"
    assert parse_qs(query) == {
        "workflowType": ["machine_learning"],
        "viewStateShareKey": [view_key("1f")],
    }
    query = "?workflowType=machine_learning"
    assert run_url("http://h", "7", "a/b") == f"http://h/#/experiments/7/runs/a%2Fb{query}"
