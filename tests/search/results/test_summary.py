"""What of a study goes into MLflow is gathered from its files, and no dearer than need be."""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING

import pytest

from mmsearch.search.results.summary import MIN_TRIALS_FOR_IMPORTANCE, summarise
from mmsearch.search.study.settings import settle
from mmsearch.search.study.study_file import StudyFile
from mmsearch.tracking.journal.journal import Journal
from mmsearch.tracking.journal.records import Outcome, SegmentRecord, TrialState
from tests.support.specs import make_spec

if TYPE_CHECKING:
    from pathlib import Path

FILE = StudyFile(
    id="0",
    corpus=None,
    corpus_fingerprint="",
    n_words={"train": 8, "dev": 1, "test": 1},
    split_fingerprint="",
    vocabulary=".ab",
    n_trials=20,
    settings=settle({"recipe": "article"}),
    storage=None,
    tracking_uri=None,
    versions={},
)


def write_trial(journal: Journal, number: int, rng: random.Random) -> None:
    """Write a trial whose loss follows from its learning rate."""
    point = {
        "embedding_dim": rng.randint(2, 48),
        "hidden_width": rng.randint(32, 512),
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
        dev_loss=2 + abs(math.log10(point["learning_rate"]) + 1),
        wall_s=0.1,
        ended_ms=0,
        weights_sha256="",
    )
    journal.append(number, line, b"")


@pytest.mark.parametrize("n_lacking", [0, 1])
def test_importances_are_told_once_trials_can_tell(tmp_path: Path, n_lacking: int) -> None:
    """Of what is searched, and only where they are asked for: they take a second."""
    journal = Journal(tmp_path / "names")
    rng = random.Random(0)  # noqa: S311 (no secret)
    for number in range(MIN_TRIALS_FOR_IMPORTANCE + 3):
        write_trial(journal, number, rng)
        is_complete = number < MIN_TRIALS_FOR_IMPORTANCE - n_lacking
        state = TrialState.COMPLETE if is_complete else TrialState.PRUNED
        journal.finish(number, Outcome(state=state, ended_ms=0))

    found = summarise(journal, FILE, ()).importances()

    if n_lacking:
        assert found == {}
        return
    assert set(found) == {"embedding_dim", "hidden_width", "block_size", "learning_rate"}
    assert 0 < sum(found.values()) <= 1
    assert max(found, key=lambda name: found[name]) == "learning_rate"
