"""The dev losses of models that are counted, not trained, which trials are compared with."""

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
    """Dev loss where every character is equally likely."""
    bigram: float
    """Dev loss of counts of character pairs with add-one smoothing."""
    ngram: float
    """Dev loss of Witten-Bell interpolated counts of longer contexts."""
    ngram_order: int
    """Context length of the n-gram in characters, chosen on dev."""
    ngram_strength: float
    """Weight of the n-gram's shorter contexts, chosen on dev."""

    def to_json(self) -> dict[str, float]:
        """Return the fields as JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Baselines:
        """Read what `to_json` returns.

        Raises:
            ValueError: a field is missing, unknown or out of range.
        """
        names = [field.name for field in dataclasses.fields(cls)]
        if set(values) != set(names):
            raise ValueError(f"its fields must be {', '.join(names)}")
        numbers = [values[name] for name in names]
        if not all(type(n) in {int, float} and math.isfinite(n) and n >= 0 for n in numbers):
            raise ValueError("its values must be finite numbers of at least 0")
        if type(values["ngram_order"]) is not int:
            raise ValueError("ngram_order must be an integer")
        return cls(**values)

    @property
    def losses(self) -> dict[str, float]:
        """The three dev losses by name, the lowest first as a rule."""
        return {"ngram": self.ngram, "bigram": self.bigram, "uniform": self.uniform}

    @property
    def rows(self) -> list[tuple[str, float]]:
        """A description of each baseline with its loss, in the order of `losses`."""
        return [
            (f"n-gram ({ngram_words(self.ngram_order, self.ngram_strength)})", self.ngram),
            ("bigram counts", self.bigram),
            ("uniform", self.uniform),
        ]

    def __str__(self) -> str:
        """Return all three on one line of less than 80 characters."""
        settings = ngram_words(self.ngram_order, self.ngram_strength)
        return (
            f"n-gram {self.ngram:.4f} ({settings}), bigram {self.bigram:.4f}, "
            f"uniform {self.uniform:.4f}"
        )


def ngram_words(order: int, strength: float) -> str:
    """Format the settings of an n-gram."""
    return f"order {order}, strength {strength:g}"
