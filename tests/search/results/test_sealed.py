"""The test words: nothing but the one look opens them."""

from __future__ import annotations

import ast
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from typer.main import get_command

from mmsearch.data.corpus import BUILTIN_CORPUS
from mmsearch.search.cli.app import app
from tests.support.fault_injection import REFUSE_TEST_WORDS, STOP_SERVER

if TYPE_CHECKING:
    from tests.support.forked_cli import Warm

ROOT = Path(__file__).resolve().parents[3]
UI = REFUSE_TEST_WORDS + STOP_SERVER
WALK = {
    "run": ("run", "--study", "few", "--trials", 5),
    "confirm": ("confirm", "--top", 2, "--seeds", 1),
    "extend": ("extend", 0, "--steps", 20),
    "trials": ("trials",),
    "sample": ("sample",),
    "losses": ("losses",),
    "replay": ("replay", 0),
    "corpus": ("corpus",),
    "init": ("init",),
    "lr-range": ("lr-range", "--study", "few", "--steps", 100),
    "ui": ("ui", "--no-browser"),
    "sync": ("sync",),
    "figures": ("figures", "drawn"),
    "report": ("report",),
    "export": ("export", "exported"),
}


def test_walk_covers_every_command() -> None:
    """A new command is walked, or this fails."""
    assert set(get_command(app).commands) == {*WALK, "final-test"}  # type: ignore[attr-defined]


def test_no_other_command_opens_the_test_words(copied: Path, warm_command: Warm) -> None:
    """Everything works while the one function that opens them raises."""
    for name, words in WALK.items():
        done = warm_command(*words, folder=copied, patch=UI if name == "ui" else REFUSE_TEST_WORDS)
        if name == "ui":
            assert "http://127.0.0.1:" in done.stdout
        else:
            assert done.returncode == 0, (name, done.stderr)
        assert "the test split was opened" not in done.stdout + done.stderr


def test_final_test_does_open_them(copied: Path, warm_command: Warm) -> None:
    """The walk would notice: through the same patch, the one look fails."""
    done = warm_command("final-test", folder=copied, patch=REFUSE_TEST_WORDS)
    assert done.returncode == 1
    assert "the test split was opened" in done.stderr


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


def test_no_test_word_is_stored(copied: Path, warm_command: Warm, small_corpus: Path) -> None:
    """After search, confirmation and final test, no file of the workspace holds the test words."""
    from mmsearch.data.corpus import read_corpus  # noqa: PLC0415 (torch-free, yet used here alone)
    from mmsearch.data.split import Claim, split_corpus  # noqa: PLC0415 (likewise)

    assert warm_command("confirm", "--top", 1, "--seeds", 1, folder=copied).returncode == 0
    assert warm_command("final-test", folder=copied).returncode == 0
    split = split_corpus(read_corpus(small_corpus))
    claim = Claim(model_sha256="", split_fingerprint=split.fingerprint)
    # Short ones stand inside other words by chance, and a model may sample any of them.
    rare = [word for word in split.test.open(claim) if len(word) > 8]
    assert rare
    for path in copied.rglob("*"):
        if path.is_file() and path.name != "samples.txt":
            content = path.read_bytes()
            assert not [word for word in rare if word.encode() in content], path


@pytest.mark.parametrize("as_json", [False, True])
def test_corpus_counts_without_showing(copied: Path, warm_command: Warm, as_json: bool) -> None:  # noqa: FBT001 (a parameter of the test)
    """`mmsearch corpus` shows sizes, leaks and fingerprints, and no word."""
    path = copied / "words.txt"
    shutil.copy(BUILTIN_CORPUS, path)
    words = ("corpus", path, *(["--json"] if as_json else []))
    done = warm_command(*words, folder=copied, patch=REFUSE_TEST_WORDS)
    assert done.returncode == 0
    for word in path.read_text().split()[:50]:
        assert word not in done.stdout
