"""Shell completion: what a shell asks the command, and what it answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.in_process import run_in_process

if TYPE_CHECKING:
    from pathlib import Path


def answered(folder: Path, line: str, shell: str = "bash") -> list[str]:
    """Return what the command answers a shell that asks for the last word of a line."""
    asked = {"_MMSEARCH_COMPLETE": f"complete_{shell}"}
    if shell == "bash":
        asked |= {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1)}
    else:
        asked |= {"_TYPER_COMPLETE_ARGS": line, "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    return run_in_process(folder=folder, **asked).output.split()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Make the files by which a study and its ended trials are known."""
    for name in ("few/study.json", "few/trials/0002/outcome.json", "few/trials/0003/outcome.json"):
        path = tmp_path / "runs" / name
        path.parent.mkdir(parents=True)
        path.touch()
    return tmp_path


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_shell_is_answered(folder: Path, shell: str) -> None:
    """These are the shells that completion can be installed for."""
    assert "few" in " ".join(answered(folder, "mmsearch trials --study f", shell))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("mmsearch run --study f", ["few"]),
        ("mmsearch init --study f", ["few"]),
        ("mmsearch sample --study few --trial 2", ["2"]),
        ("mmsearch replay ", ["2", "3"]),
        ("mmsearch run --sampler ra", ["random"]),
        ("mmsearch run --pruner hy", ["hyperband"]),
        ("mmsearch fin", ["final-test"]),
        ("mmsearch trials --study other", []),
        ("mmsearch trials --workspace nowhere --study ", []),
        ("mmsearch trials --workspace /proc/self/mem --study ", []),
        ("mmsearch sample --study no-such --trial ", []),
    ],
)
def test_studies_trials_and_choices_are_completed(
    folder: Path, line: str, words: list[str]
) -> None:
    """Names and numbers are those of the workspace; without any the prompt stays clean."""
    odd = folder / "runs/few/trials/odd"
    odd.mkdir()
    (odd / "outcome.json").touch()
    assert answered(folder, line) == words
