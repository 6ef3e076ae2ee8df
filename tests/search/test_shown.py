"""What of a study goes into MLflow is gathered from its files, and no dearer than need be."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mmsearch.search.settings import Settings
from mmsearch.search.shown import MIN_TRIALS_FOR_IMPORTANCE, summarise
from mmsearch.search.study_file import StudyFile
from mmsearch.tracking.journal import Journal, Outcome

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

SHARES = {"learning_rate": 0.7, "hidden_width": 0.3, "weight_decay": 0.0}

FILE = StudyFile(
    id="0",
    corpus=None,
    corpus_fingerprint="",
    n_words={"train": 8, "dev": 1, "test": 1},
    split_fingerprint="",
    vocabulary=".ab",
    n_trials=20,
    settings=Settings(),
    storage=None,
    tracking_uri=None,
    versions={},
)


@pytest.mark.parametrize("n_lacking", [0, 1])
def test_importances_are_asked_for_once_trials_can_tell(tmp_path: Path, n_lacking: int) -> None:
    """Optuna takes most of a second for them; of fixed hyperparameters none are told."""
    journal = Journal(tmp_path / "names")
    for number in range(MIN_TRIALS_FOR_IMPORTANCE + 3):
        state = "COMPLETE" if number < MIN_TRIALS_FOR_IMPORTANCE - n_lacking else "PRUNED"
        journal.start(number, {"seed": number}, {"started_ms": 0})
        journal.finish(number, Outcome(state=state, ended_ms=0))
    asked = []

    def importances() -> Mapping[str, float]:
        asked.append(True)
        return SHARES

    summary = summarise(journal, FILE, importances, looks=())

    assert len(asked) == 1 - n_lacking
    told = {"learning_rate": 0.7, "hidden_width": 0.3}
    assert summary.importances == ({} if n_lacking else told)
    assert summarise(journal, FILE, looks=()).importances == {}
