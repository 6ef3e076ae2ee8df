"""`--json`: every command prints what the docs say, and nothing besides."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest

from mmsearch.search.cli.json_text import SHAPES, TRIAL, Key, reference
from tests.support.fault_injection import STOP_SERVER

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.support.forked_cli import Warm

ROOT = Path(__file__).resolve().parents[3]
WORDS = {
    "run": ("run", "--study", "few", "-n", 4),
    "trials": ("trials",),
    "confirm": ("confirm", "--top", 1, "--seeds", 1),
    "final-test": ("final-test", "--trial", 0),
    "sample": ("sample", "-n", 2),
    "replay": ("replay", 0),
    "export": ("export", "model"),
    "report": ("report", "--top", 1),
    "init": ("init",),
    "lr-range": ("lr-range", "--steps", 40, "--seeds", 1),
    "corpus": ("corpus",),
    "sync": ("sync",),
    "ui": ("ui", "--no-browser"),
}


def strict(text: str) -> object:
    """Read JSON as the standard has it: one value, no NaN."""

    def refuse(name: str) -> NoReturn:
        raise AssertionError(name)

    assert text.isascii()
    return json.loads(text, parse_constant=refuse)


def check(value: object, keys: Sequence[Key]) -> None:
    """Hold an object to its keys."""
    assert isinstance(value, dict)
    assert sorted(value) == sorted(key.name for key in keys)
    for key in keys:
        assert key.admits(value[key.name]), (key, value[key.name])


def test_commands_print_what_the_docs_say(
    warm_command: Warm, copied: Path, small_corpus: Path
) -> None:
    """One value on stdout, with the keys of its command."""
    assert set(WORDS) == set(SHAPES)
    for name, words in WORDS.items():
        asked = (*words, "--json", *(("--corpus", small_corpus) if name == "run" else ()))
        done = warm_command(*asked, folder=copied, patch=STOP_SERVER if name == "ui" else "")
        assert name == "ui" or done.returncode == 0, (name, done.stderr)
        value = strict(done.stdout)
        if name == "trials":
            assert isinstance(value, list)
            assert len(value) == 4
            for trial in value:
                check(trial, TRIAL)
        else:
            check(value, SHAPES[name])
        if name == "run":
            assert isinstance(value, dict)
            check(value["best"], TRIAL)


@pytest.mark.parametrize("name", sorted(set(SHAPES) - {"init", "corpus", "run", "lr-range"}))
def test_errors_stay_text_on_stderr(warm_command: Warm, tmp_path: Path, name: str) -> None:
    """Nothing stands on stdout, where a program would read it."""
    done = warm_command(*WORDS[name], "--json", folder=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")


def test_reference_is_the_one_that_the_code_writes() -> None:
    """After a change: python -m mmsearch.search.cli.json_text > docs/json.md."""
    assert (ROOT / "docs" / "json.md").read_text() == reference()
