"""What a trained model follows from, besides the words it is trained on."""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, get_args, get_type_hints

from mmsearch.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

Init = Literal["scaled", "article"]
"""`scaled` starts at a loss near ln V; `article` draws every parameter from N(0, 1)."""

Schedule = Literal["cosine", "step", "constant"]
"""`cosine` is flat, then falls to zero; `step` is the article's single cut; `constant` is flat."""

Averaging = Literal["polynomial", "none"]
"""`polynomial` scores a mean over the steps, the late ones most; `none` the last step's weights."""

MAX_SIZE = 10**6
"""Of an embedding, a layer or a context: more takes more memory than a worker has."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialSpec:
    """One trial: its hyperparameters, its seed and its budget.

    Raises:
        InputError: a value is outside its range.
    """

    embedding_dim: int
    """Numbers that stand for one character (D)."""
    hidden_width: int
    """Units of the hidden layer (H)."""
    block_size: int
    """Context length, in characters (T)."""
    learning_rate: float
    """Of SGD, before the schedule bends it."""
    weight_decay: float
    """L2 pull on the three matrices: `p -= lr * (gradient + weight_decay * p)`."""
    seed: int
    """Of the first parameters and of every minibatch."""
    n_steps: int
    """SGD steps in all."""
    n_segments: int
    """Dev evaluations, evenly spread over the steps; the last one is the score."""
    batch_size: int
    """Examples a step."""
    init: Init
    """How the parameters start."""
    schedule: Schedule
    """How the learning rate changes over the steps."""
    averaging: Averaging
    """Which weights are the model: see `averaging`."""

    def __post_init__(self) -> None:
        sizes = ("embedding_dim", "hidden_width", "block_size")
        for name in (*sizes, "n_steps", "batch_size"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, got {getattr(self, name)}")
            if name in sizes and getattr(self, name) > MAX_SIZE:
                raise InputError(f"{name} must be at most {MAX_SIZE:,}, got {getattr(self, name)}")
        if not 1 <= self.n_segments <= self.n_steps:
            raise InputError(
                f"n_segments must be between 1 and n_steps ({self.n_steps}), got {self.n_segments}"
            )
        if not 0 < self.learning_rate <= sys.float_info.max:
            raise InputError(f"learning_rate must be above 0, got {self.learning_rate}")
        if not 0 <= self.weight_decay <= sys.float_info.max:
            raise InputError(f"weight_decay must be 0 or more, got {self.weight_decay}")
        if self.seed < 0:
            raise InputError(f"seed must be 0 or more, got {self.seed}")
        for name, choice in (("init", Init), ("schedule", Schedule), ("averaging", Averaging)):
            if getattr(self, name) not in get_args(choice):
                raise InputError(
                    f"{name} must be one of {get_args(choice)}, got {getattr(self, name)!r}"
                )

    def n_parameters(self, vocab_size: int) -> int:
        """Count the numbers in C, W1, b1, W2 and b2."""
        inputs = self.block_size * self.embedding_dim
        return (
            vocab_size * self.embedding_dim
            + (inputs + 1) * self.hidden_width
            + (self.hidden_width + 1) * vocab_size
        )

    def segment_end(self, segment: int) -> int:
        """Steps done when segment `segment` (1 to n_segments; 0 is the start) has ended."""
        return segment * self.n_steps // self.n_segments

    def to_json(self) -> dict[str, Any]:
        """Give the fields as JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> TrialSpec:
        """Read back what `to_json` gave.

        Raises:
            InputError: a field is missing, unknown or of the wrong type.
        """
        fields = {field.name for field in dataclasses.fields(cls)}
        if set(values) != fields:
            odd = ", ".join(sorted(set(values) ^ fields))
            raise InputError(f"a trial's spec does not have the fields this version expects: {odd}")
        for name, kind in _kinds().items():
            wanted = (int, float) if kind is float else (int,) if kind is int else (str,)
            if isinstance(values[name], bool) or not isinstance(values[name], wanted):
                raise InputError(f"a trial's spec has a wrong {name}: {values[name]!r}")
        return cls(**values)


@lru_cache
def _kinds() -> Mapping[str, Any]:
    """Give the type of each field; to find them anew takes longer than to read a record."""
    return get_type_hints(TrialSpec)
