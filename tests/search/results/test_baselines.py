"""Baselines of a study: counted once, shown beside the best, and never in a search's way."""

import json
import math
import signal
from pathlib import Path
from typing import Any

import pytest

from mmsearch.data.corpus import read_corpus
from mmsearch.data.split import split_corpus
from mmsearch.model.baselines import bigram_losses
from mmsearch.model.ngram import choose_ngram
from tests.support.assertions import runs_of_kind
from tests.support.cli_contract import assert_told
from tests.support.fault_injection import COUNT_BASELINES, WRITE_FILE, Kill, raising
from tests.support.forked_cli import Warm
from tests.support.in_process import run_in_process

AGAIN = ("run", "--study", "few", "-n", 4)
CONFIRM = ("confirm", "--top", 2, "--seeds", 2)
"""What the fixture `confirmed` has done."""
REPORT = ("report", "page.html", "--top", 0)


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
    reconfirmed: Path, small_corpus: Path, warm_command: Warm
) -> None:
    """File, `run`, `trials`, `confirm`, the page and MLflow have the same dev losses."""
    losses = expected(small_corpus)
    stored = json.loads((reconfirmed / "runs/few/baselines.json").read_text())
    assert stored == losses
    printed = [
        warm_command(*AGAIN, folder=reconfirmed).stdout,
        warm_command(*AGAIN, "--quiet", folder=reconfirmed).stdout,
        run_in_process("trials", folder=reconfirmed).output,
    ]
    for words in (AGAIN, CONFIRM):
        value = json.loads(warm_command(*words, "--json", folder=reconfirmed).stdout)
        assert value["baselines"] == losses
        assert all(isinstance(warning, str) for warning in value["warnings"])
    run_in_process(*REPORT, folder=reconfirmed, code=0)
    printed.append((reconfirmed / "page.html").read_text())
    (parent,) = runs_of_kind(reconfirmed / "runs", "few", "study")
    printed.append(parent.data.tags["mlflow.note.content"])
    for name in ("ngram", "bigram"):
        assert all(f"{losses[name]:.4f}" in text for text in printed)
    for name in ("uniform", "bigram", "ngram"):
        assert parent.data.metrics[f"baseline/{name}"] == pytest.approx(stored[name])


def test_old_study_gets_them_when_it_goes_on(reconfirmed: Path, warm_command: Warm) -> None:
    """Until then nothing is said of them and nothing fails; half a file was never there."""
    path = reconfirmed / "runs/few/baselines.json"
    before = path.read_bytes()
    path.unlink()
    for reading in (("trials",), REPORT):
        shown = run_in_process(*reading, folder=reconfirmed, code=0)
        assert "n-gram" not in shown.output
    assert "n-gram" not in (reconfirmed / "page.html").read_text()
    assert not path.exists()
    kill = Kill(call=WRITE_FILE, at="half", named="baselines.json")
    warm_command(*AGAIN, folder=reconfirmed, patch=kill.patch, code=-signal.SIGKILL)
    assert not path.exists()
    for words in (AGAIN, CONFIRM):
        warm_command(*words, folder=reconfirmed, code=0)
        assert path.read_bytes() == before
        path.unlink()


def test_counting_that_fails_stops_no_search(copied: Path, warm_command: Warm) -> None:
    """A search without baselines is a search, and says why it has none."""
    path = copied / "runs/few/baselines.json"
    path.unlink()
    fail = raising(COUNT_BASELINES, "MemoryError('no room')")
    done = warm_command(*AGAIN, folder=copied, patch=fail, code=0)
    assert_told(done)
    assert "no room" in done.stdout
    assert not path.exists()


def test_damaged_file_is_named_and_stops_nothing(copied: Path, warm_command: Warm) -> None:
    """All of it can be counted again, so it is no result that a command must protect."""
    path = copied / "runs/few/baselines.json"
    path.write_text('{"uniform": 3.2}')
    for words in (AGAIN, ("trials",)):
        done = warm_command(*words, folder=copied, code=0)
        assert_told(done)
        assert "baselines.json" in done.stdout
    value = json.loads(warm_command(*AGAIN, "--json", folder=copied).stdout)
    assert value["baselines"] is None
    assert "baselines.json" in value["warnings"][0]
    assert path.read_text() == '{"uniform": 3.2}'
