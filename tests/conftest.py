"""Material that stands beside the repository, and may be missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmsearch.data.corpus import Corpus, read_corpus
from mmsearch.data.split import Split, split_corpus

_SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def _shared(name: str) -> Path:
    path = _SHARED_DATA / name
    if not path.is_file():
        pytest.skip(f"../shared/data/{name} does not stand beside the repository")
    return path


@pytest.fixture(scope="session")
def ssa_source() -> Path:
    """Find the rows that names.txt is made from."""
    return _shared("ssa_yob2018.txt")


@pytest.fixture(scope="session")
def reference_path() -> Path:
    """Find the article's names."""
    return _shared("makemore_names.txt")


@pytest.fixture(scope="session")
def reference(reference_path: Path) -> Corpus:
    """Read the article's names under its own protocol: repeated lines kept."""
    return read_corpus(reference_path, keep_duplicates=True)


@pytest.fixture(scope="session")
def reference_split(reference: Corpus) -> Split:
    """Split them as the article does."""
    return split_corpus(reference, seed=42)
