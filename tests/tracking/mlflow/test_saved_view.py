"""The saved view: what the MLflow UI reads of it, and that it never changes by itself."""

from __future__ import annotations

import base64
import json
import zlib
from typing import Any

import pytest

from mmsearch.tracking.mlflow.curve_axes import CurveScale
from mmsearch.tracking.mlflow.saved_view import read_scale, view_key, view_tag


def unpacked(value: str) -> dict[str, Any]:
    """Read the state that a view's tag holds."""
    packed = json.loads(value)["state"].partition(";")[2]
    state: dict[str, Any] = json.loads(zlib.decompress(base64.b64decode(packed)))
    return state


def test_view_unpacks_to_a_leaderboard() -> None:
    key, value = view_tag("7f")
    assert key == f"mlflow.sharedViewState.{view_key('7f')}"
    kind, _, packed = json.loads(value)["state"].partition(";")
    state = json.loads(zlib.decompress(base64.b64decode(packed)))
    assert kind == "deflate"
    assert (state["orderByKey"], state["orderByAsc"]) == ("metrics.`dev_loss`", True)
    assert state["searchFilter"] == (
        "tags.`mmsearch.kind` = 'trial' and tags.`mmsearch.study_id` = '7f'"
    )
    names = ("embedding_dim", "hidden_width", "block_size", "learning_rate")
    assert {f"params.`{name}`" for name in names} < set(state["selectedColumns"])


def test_every_chart_stands_in_a_section() -> None:
    _, value = view_tag("7f")
    state = unpacked(value)
    sections = {section["uuid"] for section in state["compareRunSections"]}
    charts = state["compareRunCharts"]
    assert {chart["metricSectionId"] for chart in charts} == sections
    assert len({chart["uuid"] for chart in charts}) == len(charts)


def test_view_is_the_same_at_every_run() -> None:
    assert view_tag("7f") == view_tag("7f") != view_tag("8a")


def test_curves_are_drawn_whole_on_the_scale_of_the_study() -> None:
    scale = CurveScale(low=1.9, high=2.75, has_log_steps=True)
    state = unpacked(view_tag("7f", scale=scale)[1])
    curves = [chart for chart in state["compareRunCharts"] if chart["type"] == "LINE"]
    assert [chart["metricKey"] for chart in curves] == ["loss/dev", "loss/train"]
    for chart in curves:
        assert chart["range"] == {"yMin": 1.9, "yMax": 2.75}
        assert chart["xAxisScaleType"] == "log"
        assert not chart["ignoreOutliers"]
    assert state["runsHiddenMode"] == "SHOW_ALL"


@pytest.mark.parametrize(
    "scale", [None, *(CurveScale(low=1.9, high=3.0, has_log_steps=log) for log in (True, False))]
)
def test_scale_is_read_back(scale: CurveScale | None) -> None:
    assert read_scale(view_tag("7f", scale=scale)[1]) == scale


@pytest.mark.parametrize(
    "value", [None, "", "of another format", "[]", "{}", '{"state": "deflate;eJw="}', '{"state":1}']
)
def test_damaged_view_has_no_scale(value: str | None) -> None:
    assert read_scale(value) is None
