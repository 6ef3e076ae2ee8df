"""What every command owes a person when something is wrong, and what it may not touch."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.forked_cli import Done

CODES = frozenset({0, 1, 2, 3, 130})
"""Those that the README lists."""
_OWN = ("-lock", "-wal", "-shm")
"""What a database that is only read may leave beside itself."""


def assert_told(done: Done) -> None:
    """Hold that a command ended as documented, and said in one line what was wrong."""
    said = f"{done.returncode}\n{done.stdout}\n{done.stderr}"
    assert done.returncode in CODES, said
    assert "Traceback" not in said, said
    if done.returncode == 2 and done.stderr.startswith("Usage: "):
        return  # typer's own box
    # On a slow machine a command may have to wait for its neighbour.
    lines = [line for line in done.stderr.splitlines() if not line.startswith("waiting for ")]
    if done.returncode in {1, 2, 3}:
        assert len(lines) == 1, said
        assert lines[0].startswith("error: "), said
        assert len(lines[0]) < 8000, said  # a path may be long
    else:
        assert len(lines) <= 1, said


def contents(folder: Path) -> dict[str, str]:
    """Name everything in a folder by its content, but for locks, logs and the user's own ledger."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if not name.startswith((".local", "runs/logs")) and not name.endswith(("/lock", *_OWN)):
            is_file = path.is_file()
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest() if is_file else "folder"
    return found
