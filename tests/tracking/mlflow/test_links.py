"""The links into the MLflow UI name what they open, and nothing that a router would misread."""

from __future__ import annotations

from urllib.parse import parse_qs

from mmsearch.tracking.mlflow.links import leaderboard_url, run_url
from mmsearch.tracking.mlflow.saved_view import view_key


def test_leaderboard_link_opens_the_saved_view() -> None:
    url = leaderboard_url("http://127.0.0.1:5000", "7", "1f")
    path, query = url.split("?")
    assert path == "http://127.0.0.1:5000/#/experiments/7/runs"
    assert parse_qs(query) == {
        "workflowType": ["machine_learning"],
        "viewStateShareKey": [view_key("1f")],
    }


def test_run_link_quotes_its_ids() -> None:
    query = "?workflowType=machine_learning"
    assert run_url("http://h", "7", "a/b") == f"http://h/#/experiments/7/runs/a%2Fb{query}"
