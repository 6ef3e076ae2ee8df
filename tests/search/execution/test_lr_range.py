"""`mmsearch lr-range`: what it suggests on real names, and what it writes."""

from __future__ import annotations

import json
import tomllib
from typing import TYPE_CHECKING

import pytest

from mmsearch.search.study.settings import read_config, settle
from mmsearch.search.study.space import Range
from mmsearch.tracking.mlflow.client import connect, search_runs

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.forked_cli import Warm

SHORT = ("lr-range", "--steps", 300, "--seeds", 2)


def test_suggestion_on_the_built_in_names_holds_the_articles_rate(
    warm_command: Warm, tmp_path: Path
) -> None:
    """The article's test, at its sizes and by its recipe, lands near 0.1."""
    (tmp_path / "article.toml").write_text('[training]\nrecipe = "article"\ninit = "scaled"\n')
    done = warm_command("lr-range", "--json", "--config", "article.toml", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["suggested"]["low"] < 0.1 < found["suggested"]["high"] < 0.6
    assert found["start_loss"] == pytest.approx(3.29, abs=0.03)  # ln 27
    assert found["best_loss"] < 2.7
    assert len(found["curve"]) == found["n_steps"] == 1000
    assert found["curve"][0]["learning_rate"] == pytest.approx(0.001)


def test_same_line_gives_the_same_numbers(
    warm_command: Warm, tmp_path: Path, small_corpus: Path
) -> None:
    """It is seeded by the study's seed, and takes no other from anywhere."""
    lines = [
        warm_command(*SHORT, "--json", "--corpus", small_corpus, folder=tmp_path) for _ in range(2)
    ]
    assert lines[0].stdout == lines[1].stdout
    config = tmp_path / "seed.toml"
    config.write_text("[search]\nseed = 1\n")
    words = (*SHORT, "--json", "--corpus", small_corpus, "--config", config)
    assert warm_command(*words, folder=tmp_path).stdout != lines[0].stdout


def test_apply_changes_the_rate_alone(
    warm_command: Warm, tmp_path: Path, small_corpus: Path
) -> None:
    """Comments and the other keys stay; the file is one that a search takes."""
    config = tmp_path / "mine.toml"
    before = "# mine\n[training]\nsteps = 500 # few\n\n[space]\nhidden_width = 64\n"
    config.write_text(before)
    config.chmod(0o640)
    words = (*SHORT, "--corpus", small_corpus, "--config", config)
    printed = json.loads(warm_command(*words, "--json", folder=tmp_path).stdout)
    assert config.read_text() == before

    done = warm_command(*words, "--apply", folder=tmp_path)

    assert done.returncode == 0, done.stderr
    assert "mine.toml" in done.stdout
    after = config.read_text()
    assert after.startswith(before)
    rate = tomllib.loads(after)["space"]["learning_rate"]
    assert rate == {**printed["suggested"], "log": True}
    assert config.stat().st_mode & 0o777 == 0o640
    read = settle(read_config(config).settings).space.dimensions["learning_rate"]
    assert isinstance(read, Range)
    assert read.low == printed["suggested"]["low"]
    assert warm_command(*words, "--apply", folder=tmp_path).returncode == 0
    assert config.read_text() == after


def test_test_stands_in_mlflow_as_a_run_of_the_study(
    warm_command: Warm, tmp_path: Path, small_corpus: Path
) -> None:
    """Before the study has begun, and beside its trials once it has; it is none of them."""
    words = ("--corpus", small_corpus)
    for _ in range(2):
        done = warm_command(*SHORT, *words, folder=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        run = ("run", *words, "--trials", 1, "--steps", 100)
        assert warm_command(*run, folder=tmp_path).returncode == 0
    client = connect(f"sqlite:///{tmp_path}/runs/mlflow.db")
    experiment = client.get_experiment_by_name("mmsearch/few")
    assert experiment is not None
    runs = search_runs(client, [experiment.experiment_id], "")
    kinds = [found.data.tags["mmsearch.kind"] for found in runs]
    assert sorted(kinds) == ["lr-range", "lr-range", "study", "trial"]
    ranges = [found for found in runs if found.data.tags["mmsearch.kind"] == "lr-range"]
    for found in ranges:
        assert found.info.status == "FINISHED"
        assert found.data.params["hidden_width"] == "200"
        assert found.data.metrics["suggested_low"] < found.data.metrics["suggested_high"]
        assert len(client.get_metric_history(found.info.run_id, "loss/batch")) == 300
        files = client.list_artifacts(found.info.run_id, "figures")
        assert [file.path for file in files] == ["figures/lr_range.png"]
    assert ["mmsearch.study_id" in found.data.tags for found in ranges] == [False, True]


def test_result_is_told_where_mlflow_is_away(
    warm_command: Warm, tmp_path: Path, small_corpus: Path
) -> None:
    """One line says what is missing where."""
    words = (*SHORT, "--corpus", small_corpus, "--tracking-uri", "http://me:secret@127.0.0.1:9")
    done = warm_command(*words, folder=tmp_path, MLFLOW_HTTP_REQUEST_MAX_RETRIES="0")
    assert done.returncode == 0
    assert "suggested: lr" in done.stdout
    assert "MLflow at http://me:***@127.0.0.1:9" in done.stderr
    assert done.stderr.count("\n") == 1
    assert "secret" not in done.stdout + done.stderr


def test_figure_and_table_fit_a_page(
    warm_command: Warm, tmp_path: Path, small_corpus: Path
) -> None:
    """A PNG where it was asked for, to be handed on; no line above 80 columns."""
    words = (*SHORT, "--corpus", small_corpus, "--figure", "lr.png")
    done = warm_command(*words, folder=tmp_path, patch="import os\nos.umask(0o027)\n")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "lr.png").stat().st_mode & 0o777 == 0o640
    assert {path.stat().st_mode & 0o077 for path in (tmp_path / "runs").rglob("*")} == {0}
    assert (tmp_path / "lr.png").read_bytes().startswith(b"\x89PNG")
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "suggested: lr" in done.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--apply",), "name it with --config"),
        (("--low", 1, "--high", 0.1), "the rates must rise from above 0"),
        (("--low", 0), "the rates must rise from above 0"),
        (("--high", "nan"), "the rates must rise from above 0"),
        (("--high", 1e30), "to at most 1e+06"),
        (("--config", "none.toml"), "cannot be read"),
    ],
)
def test_bad_input_is_told(
    warm_command: Warm, tmp_path: Path, words: tuple[object, ...], message: str
) -> None:
    """Code 2 and one line, nothing written."""
    done = warm_command("lr-range", *words, folder=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_nothing_is_suggested_where_every_rate_diverges(
    warm_command: Warm, tmp_path: Path, small_corpus: Path
) -> None:
    """It says so, with code 1, and leaves the config as it is."""
    config = tmp_path / "mine.toml"
    config.write_text("[training]\nsteps = 500\n")
    words = ("--corpus", small_corpus, "--config", config, "--apply", "--low", 1e4, "--high", 1e6)
    done = warm_command(*SHORT, *words, folder=tmp_path)
    assert done.returncode == 1
    assert "--low" in done.stdout
    assert config.read_text() == "[training]\nsteps = 500\n"
