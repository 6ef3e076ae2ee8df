"""Looks at a test split: what each one claimed and what it saw, in a file of the user's own."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from mmsearch.tracking import files
from mmsearch.tracking.files import JournalError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path


@dataclass(frozen=True, kw_only=True, slots=True)
class Look:
    """One look at a test split: the claim, and the result once there is one."""

    id: str
    """Random; the same look in every store."""
    number: int
    """Counted from 1, of this split."""
    split: str
    """Fingerprint of the test words."""
    model_sha256: str
    """Of the weights that the look is at."""
    model: str
    """What a person knows the model by."""
    study: str
    study_id: str
    reason: str
    """Why a look beyond the first was taken; empty for the first."""
    claimed_ms: int
    """Unix time of the claim."""
    host: str
    """Where it was claimed."""
    result: Mapping[str, Any] | None = None
    """What was seen, JSON values; None until then."""

    def to_json(self) -> dict[str, Any]:
        """Give the fields as JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Look:
        """Read back what `to_json` gave.

        Raises:
            TypeError: a field is missing or unknown.
        """
        return cls(**values)

    def __str__(self) -> str:
        """Name the look as a person would."""
        return f"look {self.number}"


class LocalLooks:
    """Looks in a folder of the user's own, which outlives every workspace.

    <split fingerprint>.jsonl   a line a claim, a line a result; a later line of a look holds
    <split fingerprint>.lock    held while a process looks
    """

    name = "the user's own ledger"

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextlib.contextmanager
    def locked(self, split: str) -> Iterator[None]:
        """Be the one process of this user's that looks at a split; waits for others.

        Raises:
            JournalError: the folder cannot be written.
        """
        files.make_folder(self.folder)
        path = self.folder / f"{split}.lock"
        try:
            file = path.open("a")
        except OSError as error:
            raise JournalError(f"{str(path)!r} cannot be written: {error.strerror}") from error
        with file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def read(self, split: str) -> list[Look]:
        """Give the looks at a split, oldest first; a last line without its end was never written.

        Raises:
            JournalError: the file is damaged.
        """
        path = self._path(split)
        found: dict[str, Look] = {}
        for number, line in enumerate(self._content(split).split(b"\n")[:-1], start=1):
            if not line:
                continue
            try:
                look = Look.from_json(json.loads(line))
            except (ValueError, TypeError) as error:
                raise JournalError(
                    f"{str(path)!r} is damaged at line {number}: {error}; it says what a test "
                    "split was spent on: mend the line, or move the file away, and what Optuna and "
                    "MLflow remember is written anew"
                ) from error
            found[look.id] = look
        return list(found.values())

    def write(self, look: Look) -> None:
        """Note a look, or its result; what is there already is not written again.

        Raises:
            JournalError: the file is damaged or cannot be written.
        """
        if look in self.read(look.split):
            return
        path = self._path(look.split)
        line = json.dumps(look.to_json(), allow_nan=False).encode() + b"\n"
        # After a line that a killed process left without its end, which this one would join.
        content = self._content(look.split)
        if content and not content.endswith(b"\n"):
            files.replace(path, content[: content.rfind(b"\n") + 1])
        files.append(path, line)

    def _content(self, split: str) -> bytes:
        path = self._path(split)
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise JournalError(f"{str(path)!r} cannot be read: {error.strerror}") from error

    def _path(self, split: str) -> Path:
        return self.folder / f"{split}.jsonl"


def look_words(look: Look) -> str:
    """Say in one line which model a look was at, when, what it saw, and why it was taken."""
    seen = "not finished" if look.result is None else f"{look.result['test_loss']:.4f}"
    why = f', because "{look.reason}"' if look.reason else ""
    return f"{look.model} of study {look.study!r}, {shown_date(look.claimed_ms)}, {seen}{why}"


def shown_date(unix_ms: int) -> str:
    """Give a time to the minute."""
    return datetime.fromtimestamp(unix_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")
