"""Shell completion: what a shell asks the installed command, and what it answers."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.support.commands import COMMAND, environment

if TYPE_CHECKING:
    from pathlib import Path

SHELLS = ("bash", "zsh", "fish")


def complete(shell: str, folder: Path, line: str) -> subprocess.CompletedProcess[str]:
    """Ask as the shell's script does: the line so far, whose last word is to be completed."""
    asked = {"_MMSEARCH_COMPLETE": f"complete_{shell}"}
    if shell == "bash":
        asked |= {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1)}
    else:
        asked |= {"_TYPER_COMPLETE_ARGS": line, "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    return subprocess.run(
        [COMMAND],
        cwd=folder,
        env=environment(folder, asked),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("mmsearch trials --study f", "few"),
        ("mmsearch run --study f", "few"),
        ("mmsearch sample --study few --trial 2", "2"),
        ("mmsearch replay 3", "3"),
        ("mmsearch run --sampler ra", "random"),
        ("mmsearch run --pruner hy", "hyperband"),
        ("mmsearch fin", "final-test"),
    ],
)
def test_shell_is_told_what_there_is(searched: Path, shell: str, line: str, word: str) -> None:
    """Studies, their trials, choices and commands."""
    done = complete(shell, searched, line)
    assert done.stderr == ""
    assert word in done.stdout


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    "line",
    [
        "mmsearch trials --study ",
        "mmsearch replay ",
        "mmsearch sample --trial ",
        "mmsearch trials --workspace /proc/self/mem --study ",
        "mmsearch sample --study no-such --trial ",
    ],
)
def test_nothing_to_tell_is_silence(tmp_path: Path, shell: str, line: str) -> None:
    """No study, or no workspace at all: the prompt stays clean."""
    (tmp_path / "runs/few/trials/odd").mkdir(parents=True)
    (tmp_path / "runs/few/trials/odd/outcome.json").touch()
    done = complete(shell, tmp_path, line)
    assert done.stderr == ""
    assert done.stdout.strip() in {"", "_files"}  # zsh is told to offer files
