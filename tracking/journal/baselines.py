"""What a study's dev words cost without any network: the losses that a trial is held against."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, kw_only=True, slots=True)
class Baselines:
    """Dev losses of three models that are counted on train, in nats per character."""

    uniform: float
    """Every character is as likely as any other."""
    bigram: float
    """Counts of character pairs, each of them counted once more than it is seen."""
    ngram: float
    """Witten-Bell interpolated counts of longer contexts."""
    ngram_order: int
    """Context length of the n-gram in characters, chosen on dev."""
    ngram_strength: float
    """Weight of its shorter contexts, chosen on dev."""

    def to_json(self) -> dict[str, float]:
        """Return the fields as JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Baselines:
        """Read back what `to_json` returns.

        Raises:
            ValueError: a field is missing, unknown, or cannot be what it says.
        """
        names = [field.name for field in dataclasses.fields(cls)]
        if set(values) != set(names):
            raise ValueError(f"it has {', '.join(names)}")
        numbers = [values[name] for name in names]
        if not all(type(n) in {int, float} and math.isfinite(n) and n >= 0 for n in numbers):
            raise ValueError("a loss, an order or a strength is no finite number")
        if type(values["ngram_order"]) is not int:
            raise ValueError("the n-gram's order is no whole number")
        return cls(**values)

    @property
    def rows(self) -> list[tuple[str, float]]:
        """Each baseline in words with its loss, the one that is hardest to beat first."""
        return [
            (f"n-gram ({ngram_words(self.ngram_order, self.ngram_strength)})", self.ngram),
            ("bigram counts", self.bigram),
            ("uniform", self.uniform),
        ]

    def __str__(self) -> str:
        """Name all of them in one line of less than 80 characters."""
        chosen = ngram_words(self.ngram_order, self.ngram_strength)
        return (
            f"n-gram {self.ngram:.4f} ({chosen}), bigram {self.bigram:.4f}, "
            f"uniform {self.uniform:.4f}"
        )


def ngram_words(order: int, strength: float) -> str:
    """Name an n-gram's settings."""
    return f"order {order}, strength {strength:g}"
