"""The versions, the processor and the git commit that a result was made with."""

from __future__ import annotations

import getpass
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

PACKAGES = ("mmsearch", "torch", "numpy", "optuna", "mlflow")
"""Packages whose versions a result can depend on."""


def versions() -> dict[str, str]:
    """Return the versions of Python and of `PACKAGES`, and the processor; imports none of them."""
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
        "processor": _processor(),
    }


def _processor() -> str:
    """Name the processor, by which torch's libraries choose their order of summation."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()


def user() -> str | None:
    """Return the name of the user who runs this process; None where it is not known."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # neither in the environment nor in the system's list
        return None


def git_commit() -> str | None:
    """Return the commit, with `-dirty` if tracked files differ; None outside a git checkout."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    # `git describe --dirty` would rewrite the index under a lock file, which would block every
    # `git commit` if this process were killed or the disk were full.
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
