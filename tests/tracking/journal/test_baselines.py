"""The baselines of a study in its journal."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmsearch.tracking.journal.baselines import Baselines
from mmsearch.tracking.journal.files import JournalError
from mmsearch.tracking.journal.journal import Journal

BASELINES = Baselines(uniform=3.3, bigram=2.45, ngram=1.98, ngram_order=5, ngram_strength=0.5)
WHOLE: dict[str, Any] = {**BASELINES.to_json()}
CHANGES: list[dict[str, Any]] = [
    *({"bigram": value} for value in (None, "2.4", True, -1.0)),
    {"ngram_order": 2.5},
    {"later": 1},
    {"ngram": float("nan")},
]
A_LOSS = st.floats(0, 14)


@given(
    st.builds(
        Baselines,
        uniform=A_LOSS,
        bigram=A_LOSS,
        ngram=A_LOSS,
        ngram_order=st.integers(0, 20),
        ngram_strength=st.floats(0.001, 1e6),
    )
)
def test_json_keeps_every_bit(baselines: Baselines) -> None:
    assert Baselines.from_json(json.loads(json.dumps(baselines.to_json()))) == baselines


def test_journal_has_none_before_they_are_written_and_then_these(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    assert journal.read_baselines() is None

    journal.write_baselines(BASELINES)

    assert journal.read_baselines() == BASELINES


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"{", b"[]", b"\xff", b"{}"),
        *(json.dumps({**WHOLE, **change}).encode() for change in CHANGES),
    ],
)
def test_damaged_file_is_refused_by_name_with_the_next_step(tmp_path: Path, content: bytes) -> None:
    journal = Journal(tmp_path)
    journal.baselines_path.write_bytes(content)

    with pytest.raises(JournalError, match="move it away") as caught:
        journal.read_baselines()
    assert str(journal.baselines_path) in str(caught.value)
