"""Whether a view in a SQLite file is still as the last command left it, without opening it.

The import of MLflow alone takes a second or two, which a command that changes nothing need not
spend. A file that anybody has written to, moved or replaced since then has another size, time or
inode, and is then compared with the journal.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from mmsearch.tracking.journal import files
from mmsearch.tracking.mlflow.local_database import local_path


def write(receipt: Path, uri: str, shown: str) -> None:
    """Note that the view at `uri` is whole, and shows a summary with the digest `shown`."""
    if (state := _state(uri)) is not None:
        content = files.json_bytes({"uri": uri, "file": state, "summary": shown})
        with suppress(files.JournalError):  # without it the next command opens the view
            files.replace(receipt, content, is_flushed=False)


def is_valid(receipt: Path, uri: str, shown: str) -> bool:
    """Return whether nobody has written to the view at `uri` since then."""
    state = _state(uri)
    if state is None:
        return False
    try:
        return files.read_json_if_there(receipt) == {"uri": uri, "file": state, "summary": shown}
    except files.JournalError:
        return False


def _state(uri: str) -> list[Any] | None:
    """Return what changes whenever a SQLite file does; None for a server, or while it changes."""
    path = local_path(uri)
    if path is None or any(Path(f"{path}{end}").exists() for end in ("-wal", "-journal")):
        return None
    try:
        status = path.stat()
    except OSError:
        return None
    return [status.st_ino, status.st_size, status.st_mtime_ns]
