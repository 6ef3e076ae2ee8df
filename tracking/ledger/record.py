"""A look at a test split: the claim, and the result of the evaluation."""

from __future__ import annotations

import dataclasses
import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


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
"""Numbers in every result, which also holds the model's `spec` and `why` it was chosen."""
LATER_NUMBERS = ("ngram_loss", "ngram_order", "ngram_strength")
"""Numbers that the results of the first versions lack."""
FINGERPRINT = re.compile(r"[0-9a-f]{64}")
"""Matches a fingerprint of words, a SHA-256; it becomes a file's name."""
_MAX_MS = 253_402_300_800_000
"""The end of the year 9999, the last that `datetime` can format."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Look:
    """One look at a test split: the claim, and the result once there is one."""

    id: str
    """Random; the same in every ledger."""
    number: int
    """Number of the look at this split, counted from 1."""
    split: str
    """Fingerprint of the test words."""
    model_sha256: str
    """SHA-256 of the weights that are evaluated."""
    model: str
    """Name of the model in messages."""
    study: str
    """Name of the study."""
    study_id: str
    """Id of the study, which tells it from another of the same name."""
    reason: str
    """Why the split is looked at again; empty for the first look."""
    claimed_ms: int
    """Unix time of the claim, in milliseconds."""
    host: str
    """Name of the machine that claimed it."""
    result: Mapping[str, Any] | None = None
    """The result as JSON values; None until the evaluation is done."""

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Look:
        """Read what `to_json` returns; fields of a later version are ignored.

        Raises:
            ValueError: a field is missing or has an impossible value.
        """
        names = [field.name for field in dataclasses.fields(cls)]
        if not isinstance(values, dict) or not set(names) <= set(values):
            raise ValueError(f"a look must have the fields {', '.join(names)}")
        look = cls(**{name: values[name] for name in names})
        texts = (look.id, look.split, look.model_sha256, look.model, look.study, look.study_id)
        if not all(isinstance(text, str) for text in (*texts, look.reason, look.host)):
            raise ValueError("the names in a look must be strings")
        if not FINGERPRINT.fullmatch(look.split):
            raise ValueError("the split of a look must be a SHA-256")
        counts = (look.number, look.claimed_ms)
        if not all(type(count) is int and 0 <= count < _MAX_MS for count in counts):
            raise ValueError("the number and the time of a look must be integers")
        if look.result is not None:
            _check_result(look.result)
        return look

    def __str__(self) -> str:
        """Return the name of the look in messages."""
        return f"look {self.number}"


def _check_result(result: object) -> None:
    """Check the result of a look.

    Raises:
        ValueError: a part is missing or has an impossible value.
    """
    if not isinstance(result, dict):
        raise ValueError("the result of a look must be a JSON object")  # noqa: TRY004 (of a file)
    has_later = any(name in result for name in LATER_NUMBERS)
    names = (*NUMBERS, *(LATER_NUMBERS if has_later else ()))
    numbers = [result.get(name) for name in names]
    if not all(isinstance(n, int | float) and math.isfinite(n) for n in numbers):
        raise ValueError(f"the result of a look must have the finite numbers {', '.join(names)}")
    if not 0 <= result["tested_ms"] < _MAX_MS or not isinstance(result.get("spec"), dict):
        raise ValueError("the result of a look must have its time and the spec of its model")


def look_words(look: Look) -> str:
    """Return one line on a look: its model, its date, its test loss and its reason."""
    loss = "not finished" if look.result is None else f"{look.result['test_loss']:.4f}"
    why = f', because "{look.reason}"' if look.reason else ""
    return f"{look.model} of study {look.study!r}, {shown_date(look.claimed_ms)}, {loss}{why}"


def shown_date(unix_ms: int) -> str:
    """Format a time to the minute, in UTC."""
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
