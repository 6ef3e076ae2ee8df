"""`mmsearch lr-range`: what it suggests on real names, and what it writes."""

import json
import shlex
from pathlib import Path

import pytest

from mmsearch.search.study.config_file import read_config
from mmsearch.search.study.settings import settle
from mmsearch.search.study.space import Range
from mmsearch.search.study.study_file import StudyFile
from mmsearch.tracking.journal.journal import Journal
from mmsearch.tracking.mlflow.client import connect, search_runs
from tests.support.forked_cli import Warm
from tests.support.in_process import run_in_process

SHORT = ("lr-range", "--steps", 300, "--seeds", 2)
AWAY = {
    "MLFLOW_TRACKING_URI": "http://me:secret@127.0.0.1:9",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
}
"""An environment in which MLflow costs no time."""


def test_suggestion_on_the_built_in_names_holds_the_articles_rate(
    warm_command: Warm, tmp_path: Path
) -> None:
    """The article's test lands near 0.1, also where MLflow is away: one line says so."""
    (tmp_path / "article.toml").write_text('[training]\nrecipe = "article"\ninit = "scaled"\n')
    words = ("lr-range", "--json", "--config", "article.toml")
    done = warm_command(*words, folder=tmp_path, **AWAY, code=0)
    found = json.loads(done.stdout)
    assert found["suggested"]["low"] < 0.1 < found["suggested"]["high"] < 0.6
    assert found["start_loss"] == pytest.approx(3.29, abs=0.03)  # ln 27
    assert found["best_loss"] < 2.7
    assert len(found["curve"]) == found["n_steps"] == 1000
    assert found["curve"][0]["learning_rate"] == pytest.approx(0.001)
    assert "MLflow at http://me:***@127.0.0.1:9" in done.stderr
    assert done.stderr.count("\n") == 1
    assert "secret" not in done.stdout + done.stderr


def test_apply_changes_the_rate_alone(
    warm_command: Warm, tmp_path: Path, small_corpus: Path
) -> None:
    """Comments, other keys and ends of lines stay; the same line gives the same rate."""
    config = tmp_path / "mine.toml"
    before = (
        "\ufeff# mine\r\n[training]\r\nsteps = 500 # few\r\n\r\n[space]\r\nhidden_width = 64\r\n"
    )
    config.write_bytes(before.encode())
    config.chmod(0o640)
    words = (*SHORT, "--corpus", small_corpus, "--config", config)
    printed = json.loads(warm_command(*words, "--json", folder=tmp_path, code=0, **AWAY).stdout)
    assert config.read_bytes() == before.encode()

    for _ in range(2):
        done = warm_command(*words, "--apply", folder=tmp_path, code=0, **AWAY)

        assert "mine.toml" in done.stdout
        assert config.read_bytes().startswith(before.encode())
        rate = read_config(config).settings["space"]["learning_rate"]
        assert rate == {**printed["suggested"], "log": True}
        assert config.stat().st_mode & 0o777 == 0o640
    read = settle(read_config(config).settings).space.dimensions["learning_rate"]
    assert isinstance(read, Range)
    assert read.low == printed["suggested"]["low"]
    with config.open("a") as file:
        file.write("[search]\nseed = 1\n")
    other = json.loads(warm_command(*words, "--json", folder=tmp_path, code=0, **AWAY).stdout)
    assert other["curve"] != printed["curve"]


@pytest.mark.parametrize("has_begun", [False, True])
def test_hint_searches_the_same_words(
    warm_command: Warm, tmp_path: Path, small_corpus: Path, *, has_begun: bool
) -> None:
    """It says how they were read, too, which the config file need not."""
    rows = [
        f"{word.upper()};{number}" for number, word in enumerate(small_corpus.read_text().split())
    ]
    (tmp_path / "table.csv").write_text("\n".join(["word;count", *rows]) + "\n")
    words: tuple[str, ...] = ("--corpus", "table.csv", "--column", "word")
    words += ("--lower", "--boundary", "/")
    search = ("-n", 1, "--workers", 1, "--steps", 40, "--pruner", "none")
    if has_begun:
        warm_command("run", *words, *search, folder=tmp_path, code=0)
        words = ("--study", "table")
    (tmp_path / "my config.toml").touch()
    asked = (*SHORT, *words, "--config", "my config.toml", "--apply")
    done = warm_command(*asked, folder=tmp_path, code=0, **AWAY)
    line = next(line for line in done.stdout.splitlines() if "mmsearch run " in line)
    warm_command(*shlex.split(line.partition("mmsearch ")[2]), *search, folder=tmp_path, code=0)
    journal = Journal(tmp_path / "runs" / ("NEW-NAME" if has_begun else "table"))
    reading = {"keep_duplicates": False, "column": "word", "lower": True, "boundary": "/"}
    assert StudyFile.require(journal).settings.reading == reading


def test_test_stands_in_mlflow_as_a_run_of_the_study(
    warm_command: Warm, copied: Path, small_corpus: Path
) -> None:
    """Before a study has begun, and beside its trials once it has; it is none of them."""
    words = (*SHORT, "--corpus", small_corpus, "--figure", "lr.png")
    for study in ("few", "new"):
        done = warm_command(
            *words, "--study", study, folder=copied, patch="import os\nos.umask(0o027)\n"
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert max(map(len, done.stdout.splitlines())) <= 80
        assert "suggested: lr" in done.stdout
        client = connect(f"sqlite:///{copied}/runs/mlflow.db")
        experiment = client.get_experiment_by_name(f"mmsearch/{study}")
        assert experiment is not None
        runs = search_runs(client, [experiment.experiment_id], "")
        kinds = sorted(run.data.tags["mmsearch.kind"] for run in runs)
        assert kinds == ["lr-range", *(["study", *["trial"] * 4] if study == "few" else [])]
        (found,) = [run for run in runs if run.data.tags["mmsearch.kind"] == "lr-range"]
        assert ("mmsearch.study_id" in found.data.tags) == (study == "few")
        assert found.info.status == "FINISHED"
        for named in ("lr.png", found.info.run_id, f"mmsearch ui --study {study}"):
            assert named in done.stdout
        assert "hidden_width" in found.data.params
        assert found.data.metrics["suggested_low"] < found.data.metrics["suggested_high"]
        assert len(client.get_metric_history(found.info.run_id, "loss/batch")) == 300
        files = client.list_artifacts(found.info.run_id, "figures")
        assert [file.path for file in files] == ["figures/lr_range.png"]
    assert (copied / "lr.png").read_bytes().startswith(b"\x89PNG")
    assert (copied / "lr.png").stat().st_mode & 0o777 == 0o640, "it is made to be handed on"


def test_range_that_is_too_narrow_or_of_few_steps_is_told(
    warm_command: Warm, tmp_path: Path, small_corpus: Path
) -> None:
    """A factor of less than two is no range to search, and one from 300 steps depends on chance."""
    words = (*SHORT, "--corpus", small_corpus, "--low", 0.1, "--high", 0.15)
    done = warm_command(*words, folder=tmp_path, **AWAY, code=0)
    assert "too narrow" in done.stdout
    found = json.loads(warm_command(*words, "--json", folder=tmp_path, code=0, **AWAY).stdout)
    assert found["suggested"]["high"] < 2 * found["suggested"]["low"]
    few = (*SHORT, "--seeds", 1, "--json")
    wider = json.loads(warm_command(*few, folder=tmp_path, code=0, **AWAY).stdout)
    for named, (warning,) in (("too narrow", found["warnings"]), ("chance", wider["warnings"])):
        assert named in warning


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("--apply",), "--config"),
        (("--low", 1, "--high", 0.1), "rates"),
        (("--low", 0), "rates"),
        (("--high", "nan"), "rates"),
        (("--high", 1e30), "1e+06"),
        (("--config", "none.toml"), "none.toml"),
    ],
)
def test_bad_input_is_told(tmp_path: Path, words: tuple[object, ...], named: str) -> None:
    """Code 2 and one line, nothing written."""
    done = run_in_process("lr-range", *words, folder=tmp_path, code=2)
    assert named in done.error
    assert not list(tmp_path.iterdir())


def test_nothing_is_suggested_where_every_rate_diverges(
    warm_command: Warm, tmp_path: Path, small_corpus: Path
) -> None:
    """It says so, with code 1, and leaves the config as it is."""
    config = tmp_path / "mine.toml"
    config.write_text("[training]\nsteps = 500\n")
    words = ("--corpus", small_corpus, "--config", config, "--apply", "--low", 1e4, "--high", 1e6)
    done = warm_command(*SHORT, *words, folder=tmp_path, **AWAY, code=1)
    assert "--low" in done.stdout
    assert config.read_text() == "[training]\nsteps = 500\n"
