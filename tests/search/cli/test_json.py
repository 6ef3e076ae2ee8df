"""`--json`: every command prints what docs/json.md says, and only the one look opens the test."""

import json
from pathlib import Path
from typing import NoReturn

import pytest
from typer.main import get_command

from mmsearch.search.cli.app import app
from tests.support.fault_injection import REFUSE_TEST_WORDS, STOP_SERVER
from tests.support.forked_cli import Warm
from tests.support.in_process import run_in_process
from tests.support.json_reference import DOCUMENTED, check_documented

WORDS = {
    "run": ("run", "--study", "few", "-n", 5, "--workers", 1),
    "trials": ("trials",),
    "confirm": ("confirm", "--top", 1, "--seeds", 1, "--workers", 1),
    "extend": ("extend", 0, "--steps", 20),
    "sample": ("sample", "-n", 2),
    "losses": ("losses",),
    "replay": ("replay", 0),
    "replay --search": ("replay", "--search"),
    "export": ("export", "model"),
    "figures": ("figures", "drawn"),
    "report": ("report", "--top", 1),
    "init": ("init",),
    "lr-range": ("lr-range", "--study", "few", "--steps", 40, "--seeds", 1),
    "corpus": ("corpus",),
    "sync": ("sync",),
    "ui": ("ui", "--no-browser"),
    "final-test": ("final-test", "--trial", 0),
    "exclude": ("exclude", 0, "--reason", "leaks"),
    "delete": ("delete", "few", "--yes"),
}


def strict(text: str) -> object:
    """Read JSON as the standard has it: one value, no NaN."""

    def refuse(name: str) -> NoReturn:
        raise AssertionError(name)

    assert text.isascii()
    return json.loads(text, parse_constant=refuse)


def test_commands_print_what_the_docs_say_and_open_no_test_word(
    warm_command: Warm, copied: Path
) -> None:
    """One value on stdout, with the keys of its command, while opening the test words raises."""
    assert set(WORDS) == set(DOCUMENTED)
    assert {name.split()[0] for name in WORDS} == set(get_command(app).commands)  # type: ignore[attr-defined]
    refused = warm_command(*WORDS["final-test"], folder=copied, patch=REFUSE_TEST_WORDS, code=1)
    assert "the test split was opened" in refused.stderr, "the others would notice"
    for name, words in WORDS.items():
        if name == "ui":
            continue
        patch = "" if name == "final-test" else REFUSE_TEST_WORDS
        done = warm_command(*words, "--json", folder=copied, patch=patch)
        assert done.returncode == 0, (name, done.stderr)
        assert "the test split was opened" not in done.stdout + done.stderr
        value = strict(done.stdout)
        for each in value if isinstance(value, list) else [value]:
            check_documented(name, each)
        if name == "trials":
            assert isinstance(value, list)
            assert len(value) == 5
        if name == "run":
            assert isinstance(value, dict)
            check_documented("trials", value["best"])


@pytest.mark.fault
def test_ui_prints_what_the_docs_say_and_opens_no_test_word(
    warm_command: Warm, copied: Path
) -> None:
    """As the other commands, until it is stopped."""
    patch = REFUSE_TEST_WORDS + STOP_SERVER
    done = warm_command(*WORDS["ui"], "--json", folder=copied, patch=patch)
    assert "the test split was opened" not in done.stdout + done.stderr
    value = strict(done.stdout)
    assert isinstance(value, dict)
    check_documented("ui", value)


@pytest.mark.parametrize(
    ("words", "named", "step"),
    [
        (("run", "--study", "few", "--lower", "--steps", 50), ("lower", "steps 400"), "--study"),
        (("delete", "few"), ("few",), "--yes"),
        (("corpus", "odd.txt"), ("odd.txt", "'one; two.'"), "--boundary"),
        (("trials", "--study", "another"), ("another",), "mmsearch run --study another"),
        (("run", "--dask", "local:2", "--workers", 1), ("--workers",), "cluster"),
        (("trials", "--workspace", "a; b"), ("a; b",), "mmsearch run --workspace 'a; b'"),
        (("run", "--trials", "many"), ("--trials",), ""),
    ],
)
def test_error_has_what_happened_and_the_next_step_apart(
    copied: Path, warm_command: Warm, words: tuple[object, ...], named: tuple[str, ...], step: str
) -> None:
    """What happened may be a list, or name words and files that hold what divides the two."""
    (copied / "odd.txt").write_text("one; two.\nthree\n")

    done = warm_command(*words, "--json", folder=copied)

    error = json.loads(done.stderr)["error"]
    assert (error.keys(), done.stdout) == ({"code", "message", "hint"}, "")
    assert error["code"] == done.returncode != 0
    assert [part for part in named if part not in error["message"]] == []
    assert not step or (step in error["hint"] and step not in error["message"])


@pytest.mark.parametrize("name", sorted(set(WORDS) - {"init", "corpus", "run", "lr-range"}))
def test_errors_leave_stdout_empty(tmp_path: Path, name: str) -> None:
    """A program that reads stdout finds no error there."""
    done = run_in_process(*WORDS[name], "--json", folder=tmp_path)
    assert (done.exit_code, done.output) == (2, "")
    assert done.error
