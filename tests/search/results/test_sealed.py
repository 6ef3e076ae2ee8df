"""The test words: nothing but the one look opens them; `test_json.py` walks the other commands."""

import ast
from pathlib import Path

from mmsearch.data.corpus import read_corpus
from mmsearch.data.split import Claim, split_corpus

ROOT = Path(__file__).resolve().parents[3]


def test_one_module_makes_claims() -> None:
    """Claims are made, and test words opened, in one module; words are shuffled in one other."""
    makers, shufflers, openers = set[Path](), set[Path](), set[Path]()
    for room in ("data", "model", "tracking", "search"):
        for path in (ROOT / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                names = {getattr(node, field, None) for field in ("id", "attr", "name")}
                makers |= {path} if "Claim" in names else set()
                shufflers |= {path} if "shuffle" in names else set()
                if isinstance(node, ast.Attribute) and node.attr in {"open", "_SealedTest__words"}:
                    openers |= {path} if ast.unparse(node.value).endswith("test") else set()
    assert len(openers) == len(shufflers) == 1
    assert makers == openers | shufflers


def test_no_test_word_is_stored(told: Path, small_corpus: Path) -> None:
    """After search, confirmation and final test, no file of the workspace holds the test words."""
    split = split_corpus(read_corpus(small_corpus))
    claim = Claim(model_sha256="", split_fingerprint=split.fingerprint)
    # Short ones stand inside other words by chance, and a model may sample any of them.
    rare = [word for word in split.test.open(claim) if len(word) > 8]
    assert rare
    for path in told.rglob("*"):
        if path.is_file() and path.name != "samples.txt":
            content = path.read_bytes()
            assert not [word for word in rare if word.encode() in content], path
