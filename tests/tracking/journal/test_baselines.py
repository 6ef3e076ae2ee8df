"""A study's baselines read back as they were counted, or are refused by name."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmsearch.tracking.journal.baselines import Baselines
from mmsearch.tracking.journal.files import JournalError
from mmsearch.tracking.journal.journal import Journal

if TYPE_CHECKING:
    from pathlib import Path

BASELINES = Baselines(uniform=3.3, bigram=2.45, ngram=1.98, ngram_order=5, ngram_strength=0.5)
A_LOSS = st.floats(0, 14)


@given(
    losses=st.tuples(A_LOSS, A_LOSS, A_LOSS),
    order=st.integers(0, 20),
    strength=st.floats(0.001, 1e6),
)
def test_baselines_read_back_as_written(
    losses: tuple[float, float, float], order: int, strength: float
) -> None:
    uniform, bigram, ngram = losses
    baselines = Baselines(
        uniform=uniform, bigram=bigram, ngram=ngram, ngram_order=order, ngram_strength=strength
    )

    assert Baselines.from_json(json.loads(json.dumps(baselines.to_json()))) == baselines


def test_journal_keeps_them(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    assert journal.read_baselines() is None

    journal.write_baselines(BASELINES)

    assert journal.read_baselines() == BASELINES
    assert [path.name for path in tmp_path.iterdir()] == ["baselines.json"]


@pytest.mark.parametrize(
    "change",
    [
        {"bigram": None},
        {"bigram": "2.4"},
        {"bigram": True},
        {"bigram": -1.0},
        {"ngram_order": 2.5},
        {"later": 1},
        {"ngram": float("nan")},
    ],
)
def test_file_of_another_shape_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    journal = Journal(tmp_path)
    journal.write_baselines(BASELINES)
    path = tmp_path / "baselines.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))

    with pytest.raises(JournalError, match=r"baselines\.json.* is damaged: .*move it away"):
        journal.read_baselines()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b"{}"])
def test_damaged_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "baselines.json").write_bytes(content)

    with pytest.raises(JournalError, match=r"baselines\.json.* is damaged: .*move it away"):
        Journal(tmp_path).read_baselines()


def test_line_fits_eighty_columns() -> None:
    assert len(f"baselines: {BASELINES}") < 80
