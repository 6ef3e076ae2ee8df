"""Files of words to read as a corpus, and the messages about those that are refused."""

from pathlib import Path

import pytest

from mmsearch.data.corpus import read_corpus
from mmsearch.errors import InputError

TEN = ("emma", "olivia", "ava", "isabella", "sophia", "amelia", "mia", "harper", "evelyn", "zoe")
"""The fewest words that make a corpus."""
LINES = "\n".join(TEN) + "\n"
"""A file of these words."""


def write(folder: Path, data: str | bytes) -> Path:
    """Write a file of words."""
    path = folder / "words.txt"
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def refusal(path: Path) -> str:
    """Return the message about a bad corpus: one line of bounded length that names the path."""
    with pytest.raises(InputError) as caught:
        read_corpus(path)
    message = str(caught.value)
    assert "\n" not in message
    assert repr(str(path)) in message
    return message
