"""The saved view: what the MLflow UI reads of it, and that it never changes by itself."""

from __future__ import annotations

import base64
import json
import zlib

from mmsearch.tracking.views import view_key, view_tag


def test_view_unpacks_to_a_leaderboard() -> None:
    """The state is what MLflow's own share button writes: deflated JSON in base64."""
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
    """Each has a section that there is, a name of its own, and runs that make it readable."""
    _, value = view_tag("7f")
    packed = json.loads(value)["state"].partition(";")[2]
    state = json.loads(zlib.decompress(base64.b64decode(packed)))
    sections = {section["uuid"] for section in state["compareRunSections"]}
    charts = state["compareRunCharts"]
    assert {chart["metricSectionId"] for chart in charts} == sections
    assert len({chart["uuid"] for chart in charts}) == len(charts)
    assert state["runsHiddenMode"] == "FIRST_20_RUNS"


def test_view_is_the_same_at_every_run() -> None:
    """A tag that changed with the time would be written again by every command."""
    assert view_tag("7f") == view_tag("7f") != view_tag("8a")
