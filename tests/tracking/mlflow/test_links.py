"""Links into the MLflow UI have the shapes that its router reads."""

from __future__ import annotations

from urllib.parse import parse_qs, unquote

from mmsearch.tracking.mlflow.saved_view import view_key
from mmsearch.tracking.mlflow.server import compare_url, leaderboard_url, run_url


def test_leaderboard_link_opens_the_saved_view() -> None:
    """The link names the view, and does not open MLflow's empty GenAI page."""
    url = leaderboard_url("http://127.0.0.1:5000", "7", "1f")

    path, query = url.split("?")
    assert path == "http://127.0.0.1:5000/#/experiments/7/runs"
    assert parse_qs(query) == {
        "workflowType": ["machine_learning"],
        "viewStateShareKey": [view_key("1f")],
    }
    assert not set(" `'+\"") & set(url)


def test_compare_and_run_links_carry_the_ids() -> None:
    """Ids and paths are quoted as MLflow unquotes them."""
    url = compare_url("http://h", "7", ["a", "b"])
    assert unquote(url) == 'http://h/#/compare-runs?runs=["a", "b"]&experiments=["7"]'
    query = "?workflowType=machine_learning"
    assert run_url("http://h", "7", "a") == f"http://h/#/experiments/7/runs/a{query}"
    page = "artifacts/figures/a b.png"
    expected = f"http://h/#/experiments/7/runs/a/artifacts/figures/a%20b.png{query}"
    assert run_url("http://h", "7", "a", page) == expected
