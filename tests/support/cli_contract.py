"""What every command must do when something is wrong, and what it may not change."""

import hashlib
from pathlib import Path

from tests.support.forked_cli import Done

CODES = frozenset({0, 1, 2, 3, 130})
"""The exit codes that the README lists."""
_OWN = ("-lock", "-wal", "-shm")
"""Endings of files that a reader of a database may leave behind."""


def assert_told(done: Done) -> None:
    """Check that a command ended as documented, with one line about what was wrong."""
    said = f"{done.returncode}\n{done.stdout}\n{done.stderr}"
    assert done.returncode in CODES, said
    assert "Traceback" not in said, said
    if done.returncode == 2 and done.stderr.startswith("Usage: "):
        return  # typer's message
    # On a slow machine a command may have to wait for its neighbour.
    lines = [line for line in done.stderr.splitlines() if not line.startswith("waiting for ")]
    if done.returncode in {1, 2, 3}:
        assert len(lines) == 1, said
        assert lines[0].startswith("error: "), said
        assert len(lines[0]) < 8000, said  # a path may be long
    else:
        assert len(lines) <= 1, said


def contents(folder: Path) -> dict[str, str]:
    """Map each path in a folder to its hash, without locks, logs and the user's own ledger."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if not name.startswith((".local", "runs/logs")) and not name.endswith(("/lock", *_OWN)):
            is_file = path.is_file()
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest() if is_file else "folder"
    return found
