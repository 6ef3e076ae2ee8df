"""Importances are what they are called: shares of the variance of the dev loss."""

from __future__ import annotations

import dataclasses
import math
import random
from typing import TYPE_CHECKING, Any

import pytest

from mmsearch.search.optimizer.importance import importances
from mmsearch.search.results.report import write_report
from mmsearch.search.results.summary import MIN_TRIALS_FOR_IMPORTANCE
from mmsearch.tracking.journal.journal import Journal
from mmsearch.tracking.journal.records import Outcome, SegmentRecord, TrialState
from tests.search.results.test_summary import FILE
from tests.support.specs import make_spec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

SPACE = FILE.settings.space


def on_the_rate(point: Mapping[str, Any]) -> float:
    """Return a loss that has its valley in the middle of the learning rates."""
    return 2 + abs(math.log10(point["learning_rate"]) + 1)


def search(
    journal: Journal, n_trials: int, loss: Callable[[Mapping[str, Any]], float]
) -> Mapping[str, float]:
    """Record trials that are drawn evenly from the space, and return their importances."""
    rng = random.Random(journal.name)  # noqa: S311 (no secret)
    for number in range(n_trials):
        point = {
            "embedding_dim": round(math.exp(rng.uniform(math.log(2), math.log(48)))),
            "hidden_width": round(math.exp(rng.uniform(math.log(32), math.log(512)))),
            "block_size": rng.randint(2, 10),
            "learning_rate": 10 ** rng.uniform(-2, 0),
            "weight_decay": 0.0,
            "context_noise": 0.0,
        }
        spec = make_spec(**point, seed=number, n_steps=1, n_segments=1)
        journal.start(number, spec, {"started_ms": 0, "n_parameters": 9})
        line = SegmentRecord(
            segment=1,
            step=1,
            train=(),
            dev_loss=loss(point),
            wall_s=0.1,
            ended_ms=0,
            weights_sha256="",
        )
        journal.append(number, line, b"")
        journal.finish(number, Outcome(state=TrialState.COMPLETE, ended_ms=0))
    return importances(journal.records(), SPACE)


def test_importances_are_shares_of_the_variance(tmp_path: Path) -> None:
    """Two straight slopes, one sqrt(3) times as steep, make 3/4 and 1/4 of the variance."""

    def loss(point: Mapping[str, Any]) -> float:
        rate = (math.log10(point["learning_rate"]) + 2) / 2
        width = math.log(point["hidden_width"] / 32) / math.log(16)
        return 2 + math.sqrt(3) * rate + width

    shares = search(Journal(tmp_path / "names"), 150, loss)

    assert shares["learning_rate"] == pytest.approx(3 / 4, abs=0.06)
    assert shares["hidden_width"] == pytest.approx(1 / 4, abs=0.06)
    assert shares["embedding_dim"] + shares["block_size"] < 0.06


def test_what_alone_decides_is_nearly_always_first(tmp_path: Path) -> None:
    """A person drops the other hyperparameters next time, from as few trials as are told."""
    found = [
        search(Journal(tmp_path / f"names-{seed}"), MIN_TRIALS_FOR_IMPORTANCE, on_the_rate)
        for seed in range(8)
    ]

    first = [max(shares, key=shares.__getitem__) for shares in found]

    assert first.count("learning_rate") >= 7


def test_equal_losses_have_no_importances(tmp_path: Path) -> None:
    """Nothing varies, so nothing explains it."""
    assert search(Journal(tmp_path / "even"), 20, lambda _: 2.0) == {}
    assert search(Journal(tmp_path / "empty"), 0, on_the_rate) == {}


def test_report_says_from_how_many_trials(tmp_path: Path) -> None:
    """A share from 23 trials is an estimate, and is told as one."""
    journal, n_trials = Journal(tmp_path / "names"), MIN_TRIALS_FOR_IMPORTANCE + 3
    search(journal, n_trials, on_the_rate)
    sha = "0" * 64
    file = dataclasses.replace(FILE, id=sha[:32], corpus_fingerprint=sha, split_fingerprint=sha)
    journal.write_study(file.to_json())
    page = tmp_path / "names.html"

    write_report(journal, page, top=0)

    told = [line for line in page.read_text().splitlines() if "variance" in line]
    assert told
    assert all(f"{n_trials} complete trials" in line for line in told)
