"""The user's own ledger: every look at a test split, in files that outlive every workspace."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING

from mmsearch.tracking.journal import files
from mmsearch.tracking.ledger.record import Look

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class UserLedger:
    """Looks in a folder of the user.

    <split fingerprint>.jsonl   a line per claim and per result; the last line of an id counts
    <split fingerprint>.lock    locked while a process looks at the split
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextlib.contextmanager
    def locked(self, split: str) -> Iterator[None]:
        """Hold the lock of a split, which only one process has at a time; waits for others.

        Raises:
            JournalError: the folder cannot be written.
        """
        path = self.folder / f"{split}.lock"
        with _hint():
            files.make_folder(self.folder)
            file = files.opened(path)
        with file:
            files.lock(file, path)
            yield

    def read(self, split: str) -> list[Look]:
        """Return the looks at a split, oldest first; an incomplete last line is ignored.

        Raises:
            JournalError: the file is damaged.
        """
        path = self._path(split)
        looks: dict[str, Look] = {}
        for number, line in enumerate(self._content(split).split(b"\n")[:-1], start=1):
            if not line:
                continue
            try:
                look = Look.from_json(json.loads(line))
            except (ValueError, RecursionError) as error:
                raise files.damaged(
                    path,
                    f"line {number}, {error}",
                    "it records what a test split was used for: repair the line, or move the file "
                    "away, and the looks that Optuna and MLflow hold are written again",
                ) from error
            looks[look.id] = look
        return list(looks.values())

    def write(self, look: Look) -> None:
        """Append a look, unless the same one is recorded already.

        Raises:
            JournalError: the file is damaged or cannot be written.
        """
        if look in self.read(look.split):
            return
        path, content = self._path(look.split), self._content(look.split)
        with _hint():
            if content and not content.endswith(b"\n"):
                # A killed process left a line without its end, which the new one would join.
                files.replace(path, content[: content.rfind(b"\n") + 1])
            files.append(path, json.dumps(look.to_json(), allow_nan=False).encode() + b"\n")

    def _content(self, split: str) -> bytes:
        return files.read_if_there(self._path(split)) or b""

    def _path(self, split: str) -> Path:
        return self.folder / f"{split}.jsonl"


@contextlib.contextmanager
def _hint() -> Iterator[None]:
    """Turn an error of the file system into one that names the ledger and MMSEARCH_LEDGER."""
    try:
        yield
    except files.JournalError as error:
        raise files.JournalError(
            error.what,
            hint="if the ledger of test evaluations cannot be kept there, set MMSEARCH_LEDGER to "
            "the absolute path of a folder that can be written",
        ) from error
