"""Shell completion: what a shell asks the command, and what it answers."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.support.commands import COMMAND, environment
from tests.support.in_process import run_in_process

if TYPE_CHECKING:
    from pathlib import Path


def asked(shell: str, line: str) -> dict[str, str]:
    """Return the environment in which a shell asks for the last word of a line."""
    variables = {"_MMSEARCH_COMPLETE": f"complete_{shell}"}
    if shell == "bash":
        return variables | {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1)}
    return variables | {"_TYPER_COMPLETE_ARGS": line, "_TYPER_COMPLETE_FISH_ACTION": "get-args"}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_installed_command_completes(searched: Path, shell: str) -> None:
    """The installed command answers each shell that its completion can be installed for."""
    done = subprocess.run(
        [COMMAND],
        cwd=searched,
        env=environment(searched, asked(shell, "mmsearch trials --study f")),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stderr == ""
    assert "few" in done.stdout


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("mmsearch run --study f", "few"),
        ("mmsearch init --study f", "few"),
        ("mmsearch sample --study few --trial 2", "2"),
        ("mmsearch losses --trial 2", "2"),
        ("mmsearch replay 3", "3"),
        ("mmsearch extend 3", "3"),
        ("mmsearch figures drawn --trial 1", "1"),
        ("mmsearch figures drawn --format s", "svg"),
        ("mmsearch run --sampler ra", "random"),
        ("mmsearch run --pruner hy", "hyperband"),
        ("mmsearch fin", "final-test"),
    ],
)
def test_studies_trials_and_choices_are_completed(searched: Path, line: str, word: str) -> None:
    """Names and numbers are those of the workspace."""
    assert word in run_in_process(folder=searched, **asked("bash", line)).output.split()


@pytest.mark.parametrize(
    "line",
    [
        "mmsearch trials --study ",
        "mmsearch replay ",
        "mmsearch trials --workspace /proc/self/mem --study ",
        "mmsearch sample --study no-such --trial ",
    ],
)
def test_nothing_to_complete_prints_nothing(tmp_path: Path, line: str) -> None:
    """Without a study, or without a workspace, the prompt stays clean."""
    (tmp_path / "runs/few/trials/odd").mkdir(parents=True)
    (tmp_path / "runs/few/trials/odd/outcome.json").touch()
    assert run_in_process(folder=tmp_path, **asked("bash", line)).output.strip() == ""
