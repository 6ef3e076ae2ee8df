"""Looks at a test split: what each one claimed and what it saw, in a file of the user's own."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from mmsearch.tracking.journal import files
from mmsearch.tracking.journal.files import JournalError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path


NUMBERS = (
    "test_loss",
    "test_loss_low",
    "test_loss_high",
    "test_bits_per_char",
    "test_perplexity",
    "dev_loss",
    "uniform_loss",
    "bigram_loss",
    "n_test_words",
    "n_test_characters",
    "n_test_words_in_train",
    "tested_ms",
)
"""What each result holds, besides the model's `spec` and `why` it was chosen."""
LATER_NUMBERS = ("ngram_loss", "ngram_order", "ngram_strength")
"""What results hold too, but for those of the first versions."""
FINGERPRINT = re.compile(r"[0-9a-f]{64}")
"""Of test words: their SHA-256. It names a file of the ledger, and comes from others' databases."""
_MAX_MS = 253_402_300_800_000
"""The end of the year 9999, beyond which no time can be shown."""


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
        """Read back what `to_json` gave; what a later version may have added is left out.

        Raises:
            ValueError: a field is missing or cannot be what it says.
        """
        names = [field.name for field in dataclasses.fields(cls)]
        if not isinstance(values, dict) or not set(names) <= set(values):
            raise ValueError(f"a look has {', '.join(names)}")
        look = cls(**{name: values[name] for name in names})
        words = (look.id, look.split, look.model_sha256, look.model, look.study, look.study_id)
        counts = (look.number, look.claimed_ms)
        if not all(isinstance(word, str) for word in (*words, look.reason, look.host)):
            raise ValueError("a look's names are text")
        if not FINGERPRINT.fullmatch(look.split):
            raise ValueError("a look's split is a SHA-256")
        if not all(type(count) is int and 0 <= count < _MAX_MS for count in counts):
            raise ValueError("a look's number and time are whole numbers")
        if look.result is not None:
            _check_result(look.result)
        return look

    def __str__(self) -> str:
        """Name the look as a person would."""
        return f"look {self.number}"


def _check_result(result: Any) -> None:
    """Check what a look says that it saw.

    Raises:
        ValueError: a part is missing or cannot be what it says.
    """
    if not isinstance(result, dict):
        raise ValueError("a look's result is a table")  # noqa: TRY004 (of the file, not of a call)
    numbers = [result.get(name) for name in NUMBERS]
    if not all(isinstance(n, int | float) and math.isfinite(n) for n in numbers):
        raise ValueError(f"a look's result has finite {', '.join(NUMBERS)}")
    later = [result[name] for name in LATER_NUMBERS if name in result]
    if later and not (
        len(later) == len(LATER_NUMBERS)
        and all(isinstance(n, int | float) and math.isfinite(n) for n in later)
    ):
        raise ValueError(f"a look's result has all of {', '.join(LATER_NUMBERS)}, or none")
    if not 0 <= result["tested_ms"] < _MAX_MS or not isinstance(result.get("spec"), dict):
        raise ValueError("a look's result has its time and the model's spec")


class LocalLooks:
    """Looks in a folder of the user's own, which outlives every workspace.

    <split fingerprint>.jsonl   a line a claim, a line a result; a later line of a look holds
    <split fingerprint>.lock    held while a process looks
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextlib.contextmanager
    def locked(self, split: str) -> Iterator[None]:
        """Be the one process of this user's that looks at a split; waits for others, and says so.

        Raises:
            JournalError: the folder cannot be written.
        """
        files.make_folder(self.folder)
        path = self.folder / f"{split}.lock"
        try:
            file = open(path, "a", opener=files.private)  # noqa: SIM115 (closed below)
        except OSError as error:
            raise JournalError(f"{str(path)!r} cannot be written: {error.strerror}") from error
        with file:
            files.lock(file, path)
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
            except (ValueError, RecursionError) as error:
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
        except (FileNotFoundError, NotADirectoryError):
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


def merged(stores: Iterable[Iterable[Look]]) -> list[Look]:
    """Merge the looks of several stores; of two copies of a look, one with a result wins.

    Returns:
        Each look once, by its number and the time of its claim.
    """
    looks: dict[str, Look] = {}
    for look in (look for store in stores for look in store):
        if look.id not in looks or looks[look.id].result is None:
            looks[look.id] = look
    return sorted(looks.values(), key=lambda look: (look.number, look.claimed_ms))
