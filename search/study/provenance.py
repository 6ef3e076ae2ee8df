"""What a result was made with: versions, and the commit where the code is a checkout."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

PACKAGES = ("mmsearch", "torch", "numpy", "optuna", "mlflow")
"""Whose versions a result can depend on."""


def versions() -> dict[str, str]:
    """Versions of Python and of `PACKAGES`, without importing them, and the processor."""
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
        "processor": _processor(),
    }


def _processor() -> str:
    """Name the processor: by it, torch's libraries choose how they add up."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()


def git_commit() -> str | None:
    """The checkout's commit, with `-dirty` where tracked files differ; None outside of one."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    # `describe --dirty` would write the index anew, which takes a lock in the person's checkout:
    # killed there, or on a full disk, it would stay, and stop every `git commit`.
    status = ("status", "--porcelain=v2", "--branch", "--untracked-files=no")
    command = ["git", "--no-optional-locks", *status]
    try:
        done = subprocess.run(  # noqa: S603 (a constant command)
            command, cwd=root, capture_output=True, text=True, check=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return None
    lines = done.stdout.splitlines()
    commit = next((w[2] for w in map(str.split, lines) if w[:2] == ["#", "branch.oid"]), None)
    if commit is None or not commit.isalnum():  # "(initial)"
        return None
    return commit + ("" if all(line.startswith("#") for line in lines) else "-dirty")
