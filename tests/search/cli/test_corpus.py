"""`mmsearch corpus`: what a word list contains is known before a search."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from mmsearch.data.corpus import BUILTIN_CORPUS
from tests.support.in_process import run_in_process

if TYPE_CHECKING:
    from pathlib import Path


def test_sizes_repeats_and_leaks_are_printed(tmp_path: Path) -> None:
    """Repeats are dropped unless they are kept; kept ones leak from train into dev; no word."""
    lines = BUILTIN_CORPUS.read_text().split()
    printed = run_in_process("corpus", "--json", folder=tmp_path).output
    values = json.loads(printed)
    kept = json.loads(
        run_in_process("corpus", "--json", "--keep-duplicates", folder=tmp_path).output
    )
    assert values["lines"] == len(lines)
    assert values["words"] == len(set(lines)) == sum(values[p] for p in ("train", "dev", "test"))
    assert values["dev_words_in_train"] == values["test_words_in_train"] == 0
    assert kept["words"] == len(lines)
    assert kept["dev_words_in_train"] > 0
    text = run_in_process("corpus", folder=tmp_path).output
    assert f"{len(lines):,} lines" in text
    assert f"{values['train']:,} train" in text
    shown = set(re.findall(r"[a-z]+", printed + text))
    assert not shown & {word for word in lines if len(word) > 5}
