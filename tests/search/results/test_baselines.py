"""Baselines of a study: counted once, shown beside the best, and never in a search's way."""

from __future__ import annotations

import json
import math
import signal
from typing import TYPE_CHECKING, Any

import pytest
from mlflow import MlflowClient

from mmsearch.data.corpus import read_corpus
from mmsearch.data.split import split_corpus
from mmsearch.model.baselines import bigram_losses
from mmsearch.model.ngram import choose_ngram
from mmsearch.tracking.journal.journal import Journal
from tests.support.cli_contract import assert_told
from tests.support.fault_injection import COUNT_BASELINES, WRITE_FILE, Kill, raising

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.forked_cli import Warm

AGAIN = ("run", "--study", "few", "-n", 4)
FAIL = raising(COUNT_BASELINES, "MemoryError('no room')")


def expected(corpus: Path) -> dict[str, Any]:
    """Count what a study of a corpus should hold."""
    words = read_corpus(corpus)
    split = split_corpus(words)
    ngram = choose_ngram(split.train, split.dev, words.vocabulary)
    return {
        "uniform": pytest.approx(math.log(words.vocabulary.size)),
        "bigram": bigram_losses(split.train, split.dev, words.vocabulary).mean,
        "ngram": ngram.losses.mean,
        "ngram_order": ngram.order,
        "ngram_strength": ngram.strength,
    }


def test_baselines_stand_beside_the_best(
    copied: Path, small_corpus: Path, warm_command: Warm
) -> None:
    """File, `run`, `trials`, `confirm`, the page and MLflow have the same dev losses."""
    losses = expected(small_corpus)
    path = copied / "runs/few/baselines.json"
    assert json.loads(path.read_text()) == losses
    shown = [f"{losses[name]:.4f}" for name in ("ngram", "bigram")]
    printing: tuple[tuple[object, ...], ...] = (AGAIN, (*AGAIN, "--quiet"), ("trials",))
    for words in printing:
        done = warm_command(*words, folder=copied)
        assert done.returncode == 0, done.stderr
        for loss in shown:
            assert loss in done.stdout, words
    for command in (AGAIN, ("confirm", "--top", 1, "--seeds", 1)):
        value = json.loads(warm_command(*command, "--json", folder=copied).stdout)
        assert value["baselines"] == losses
        assert all(isinstance(warning, str) for warning in value["warnings"])
    assert warm_command("report", "page.html", "--top", 0, folder=copied).returncode == 0
    client = MlflowClient(f"sqlite:///{copied}/runs/mlflow.db")
    experiment = client.get_experiment_by_name("mmsearch/few")
    assert experiment is not None
    (parent,) = client.search_runs([experiment.experiment_id], "tags.mmsearch.kind = 'study'")
    for loss in shown:
        assert loss in (copied / "page.html").read_text()
        assert loss in parent.data.tags["mlflow.note.content"]
    for name in ("uniform", "bigram", "ngram"):
        assert parent.data.metrics[f"baseline/{name}"] == pytest.approx(
            json.loads(path.read_text())[name]
        )


def test_old_study_gets_them_when_it_goes_on(copied: Path, warm_command: Warm) -> None:
    """Until then nothing is said of them, and nothing fails."""
    path = copied / "runs/few/baselines.json"
    before = path.read_bytes()
    path.unlink()
    for words in (("trials",), ("report", "page.html", "--top", 0), ("sync",)):
        done = warm_command(*words, folder=copied)
        assert (done.returncode, done.stderr) == (0, ""), words
        assert "n-gram" not in done.stdout
    assert "n-gram" not in (copied / "page.html").read_text()
    assert not path.exists()
    assert warm_command(*AGAIN, folder=copied).returncode == 0
    assert path.read_bytes() == before
    path.unlink()
    assert warm_command("confirm", "--top", 1, "--seeds", 1, folder=copied).returncode == 0
    assert path.read_bytes() == before


def test_killed_in_their_writing_they_are_counted_again(copied: Path, warm_command: Warm) -> None:
    """Half a file was never there."""
    path = copied / "runs/few/baselines.json"
    before = path.read_bytes()
    path.unlink()
    kill = Kill(call=WRITE_FILE, at="half", named="baselines.json")
    done = warm_command("run", "--study", "few", "-n", 5, folder=copied, patch=kill.patch)
    assert done.returncode == -signal.SIGKILL, done
    assert not path.exists()
    assert warm_command("run", "--study", "few", "-n", 5, folder=copied).returncode == 0
    assert path.read_bytes() == before


def test_counting_that_fails_stops_no_search(copied: Path, warm_command: Warm) -> None:
    """A search without baselines is a search, and says why it has none."""
    (copied / "runs/few/baselines.json").unlink()
    done = warm_command("run", "--study", "few", "-n", 5, folder=copied, patch=FAIL)
    assert done.returncode == 0, done.stderr
    assert_told(done)
    assert "no room" in done.stdout
    assert Journal(copied / "runs/few").read_baselines() is None
    assert len(Journal(copied / "runs/few").records()) == 5


@pytest.mark.parametrize("content", ["", "{", "[]", '{"uniform": 3.2}'])
def test_damaged_file_is_named_and_stops_nothing(
    copied: Path, warm_command: Warm, content: str
) -> None:
    """All of it can be counted again, so it is no result that a command must protect."""
    path = copied / "runs/few/baselines.json"
    path.write_text(content)
    for words in (AGAIN, ("trials",)):
        done = warm_command(*words, folder=copied)
        assert done.returncode == 0, done.stderr
        assert_told(done)
        assert "baselines.json" in done.stdout
    value = json.loads(warm_command(*AGAIN, "--json", folder=copied).stdout)
    assert value["baselines"] is None
    assert "baselines.json" in value["warnings"][0]
    assert path.read_text() == content
