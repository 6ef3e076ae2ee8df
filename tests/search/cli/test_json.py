"""`--json`: every command prints what docs/json.md says, and nothing else."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NoReturn

import pytest

from tests.support.fault_injection import STOP_SERVER
from tests.support.in_process import run_in_process
from tests.support.json_reference import DOCUMENTED, check_documented

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.forked_cli import Warm

WORDS = {
    "run": ("run", "--study", "few", "-n", 4),
    "trials": ("trials",),
    "confirm": ("confirm", "--top", 1, "--seeds", 1),
    "extend": ("extend", 0, "--steps", 20),
    "final-test": ("final-test", "--trial", 0),
    "sample": ("sample", "-n", 2),
    "losses": ("losses",),
    "replay": ("replay", 0),
    "export": ("export", "model"),
    "figures": ("figures", "drawn"),
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


def test_commands_print_what_the_docs_say(
    warm_command: Warm, copied: Path, small_corpus: Path
) -> None:
    """One value on stdout, with the keys of its command."""
    assert set(WORDS) == set(DOCUMENTED)
    for name, words in WORDS.items():
        asked = (*words, "--json", *(("--corpus", small_corpus) if name == "run" else ()))
        done = warm_command(*asked, folder=copied, patch=STOP_SERVER if name == "ui" else "")
        assert name == "ui" or done.returncode == 0, (name, done.stderr)
        value = strict(done.stdout)
        if name == "trials":
            assert isinstance(value, list)
            assert len(value) == 4
            for trial in value:
                check_documented(name, trial)
        else:
            check_documented(name, value)
        if name == "run":
            assert isinstance(value, dict)
            check_documented("trials", value["best"])


@pytest.mark.parametrize("name", sorted(set(WORDS) - {"init", "corpus", "run", "lr-range"}))
def test_errors_leave_stdout_empty(tmp_path: Path, name: str) -> None:
    """A program that reads stdout finds no error there."""
    done = run_in_process(*WORDS[name], "--json", folder=tmp_path)
    assert (done.exit_code, done.output) == (2, "")
    assert done.error
