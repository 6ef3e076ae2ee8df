"""Importances are shares of the variance of the dev loss, told once there are enough trials."""

import math
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from mmsearch.search.optimizer.importance import importances
from mmsearch.search.results.report import write_report
from mmsearch.search.results.summary import MIN_TRIALS_FOR_IMPORTANCE, summarise
from mmsearch.search.study.settings import settle
from mmsearch.search.study.study_file import StudyFile
from mmsearch.tracking.journal.journal import Journal
from mmsearch.tracking.journal.records import TrialRecord
from tests.support.records import make_trial, write_trial

FILE = StudyFile(
    id="0" * 32,
    corpus=None,
    corpus_fingerprint="0" * 64,
    n_words={"train": 8, "dev": 1, "test": 1},
    split_fingerprint="0" * 64,
    vocabulary=".ab",
    n_trials=20,
    settings=settle({"recipe": "article"}),
    storage=None,
    tracking_uri=None,
    versions={},
)
SPACE = FILE.settings.space


def on_the_rate(point: Mapping[str, Any]) -> float:
    """Return a loss that has its valley in the middle of the learning rates."""
    return 2 + abs(math.log10(point["learning_rate"]) + 1)


def drawn(
    name: str, n_trials: int, loss: Callable[[Mapping[str, Any]], float] = on_the_rate
) -> list[TrialRecord]:
    """Return complete trials that are drawn evenly from the space, by a seed from a name."""
    records: list[TrialRecord] = []
    rng = random.Random(name)  # noqa: S311 (no secret)
    for number in range(n_trials):
        point: dict[str, Any] = {
            "embedding_dim": round(math.exp(rng.uniform(math.log(2), math.log(48)))),
            "hidden_width": round(math.exp(rng.uniform(math.log(32), math.log(512)))),
            "block_size": rng.randint(2, 10),
            "learning_rate": 10 ** rng.uniform(-2, 0),
        }
        records.append(make_trial(number, [loss(point)], **point, n_steps=100))
    return records


def test_importances_are_shares_of_the_variance() -> None:
    """Two straight slopes, one sqrt(3) times as steep, make 3/4 and 1/4 of the variance."""

    def loss(point: Mapping[str, Any]) -> float:
        rate = (math.log10(point["learning_rate"]) + 2) / 2
        width = math.log(point["hidden_width"] / 32) / math.log(16)
        return 2 + math.sqrt(3) * rate + width

    shares = importances(drawn("names", 150, loss), SPACE)

    assert shares["learning_rate"] == pytest.approx(3 / 4, abs=0.06)
    assert shares["hidden_width"] == pytest.approx(1 / 4, abs=0.06)
    assert shares["embedding_dim"] + shares["block_size"] < 0.06


def test_what_alone_decides_is_nearly_always_first() -> None:
    """A person drops the other hyperparameters next time, from as few trials as are told."""
    found = [
        importances(drawn(f"names-{seed}", MIN_TRIALS_FOR_IMPORTANCE), SPACE) for seed in range(8)
    ]

    first = [max(shares, key=shares.__getitem__) for shares in found]

    assert first.count("learning_rate") >= 7


def test_equal_losses_have_no_importances() -> None:
    """Nothing varies, so nothing explains it."""
    assert importances(drawn("even", 20, lambda _: 2.0), SPACE) == {}
    assert importances([], SPACE) == {}


@pytest.mark.parametrize("n_lacking", [0, 1])
def test_importances_are_told_from_enough_complete_trials(tmp_path: Path, n_lacking: int) -> None:
    """A summary has those of what is searched, and none where too few trials are complete."""
    records = drawn("names", MIN_TRIALS_FOR_IMPORTANCE - n_lacking)
    pruned = [make_trial(len(records) + n, [2.5], "PRUNED") for n in range(4)]

    summary = summarise(Journal(tmp_path / "names"), FILE, (), trials=[*records, *pruned])

    shares = summary.importances()
    searched = {name for name, each in SPACE.dimensions.items() if not each.is_fixed}
    assert set(shares) == (set() if n_lacking else searched)
    assert sum(shares.values()) <= 1


def test_report_says_from_how_many_trials(tmp_path: Path) -> None:
    """A share from 23 trials is an estimate, and is told as one."""
    journal, n_trials = Journal(tmp_path / "names"), MIN_TRIALS_FOR_IMPORTANCE + 3
    for record in drawn("names", n_trials):
        write_trial(journal, record)
    journal.write_study(FILE.to_json())
    page = tmp_path / "names.html"

    write_report(journal, page, top=0)

    told = [line for line in page.read_text().splitlines() if "variance" in line]
    assert told
    assert all(f"{n_trials} complete trials" in line for line in told)
