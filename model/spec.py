"""The spec of a trial: everything that determines a trained model, besides the words."""

from __future__ import annotations

import dataclasses
import math
import sys
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, get_args, get_type_hints

from mmsearch.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Init = Literal["scaled", "article"]
"""`scaled` starts at a loss near ln V; `article` draws every parameter from N(0, 1)."""

Schedule = Literal["cosine", "step", "constant"]
"""`cosine` is flat, then falls to zero; `step` is the article's single cut; `constant` is flat."""

Averaging = Literal["polynomial", "none"]
"""`polynomial` scores a mean of the weights over the steps; `none` scores the last weights."""

Optimizer = Literal["sgd", "adam"]
"""`adam` has decoupled weight decay (Loshchilov and Hutter, 2019)."""

Targets = Literal["examples", "contexts"]
"""`examples` draws single examples, as makemore does; `contexts` draws distinct contexts by their
counts, each with the distribution of all characters that follow it."""

Evaluations = Literal["even", "growing"]
"""`even` spaces the dev evaluations evenly; `growing` makes them dense early and sparse late."""

GROWTH = 80
"""Ratio of the last and the first interval between growing evaluations, about."""

CHOICES = {
    "init": Init,
    "schedule": Schedule,
    "averaging": Averaging,
    "optimizer": Optimizer,
    "targets": Targets,
    "evaluations": Evaluations,
}
"""The categorical fields of a spec."""

MAX_SIZE = 10**6
"""Largest embedding, layer or context; more would not fit into a worker's memory."""
_LIMITS: Mapping[str, tuple[float, float]] = {
    "embedding_dim": (1, MAX_SIZE),
    "hidden_width": (1, MAX_SIZE),
    "block_size": (1, MAX_SIZE),
    "weight_decay": (0, sys.float_info.max),
    "context_noise": (0, 1),
    "seed": (0, math.inf),
    "n_steps": (1, math.inf),
    "batch_size": (1, math.inf),
    "patience": (0, math.inf),
    "extend_to": (1, 1000),
    "cut_at": (0, 1),
    "cut_factor": (0, 1),
}
"""Lowest and highest value of numeric fields."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialSpec:
    """Hyperparameters, seed, recipe and budget of a trial.

    Fields with a default were added after version 0.1; the default behaves as that version did.

    Raises:
        InputError: a value is out of range.
    """

    embedding_dim: int
    """Dimensions of a character's embedding (D)."""
    hidden_width: int
    """Units of the hidden layer (H)."""
    block_size: int
    """Context length, in characters (T)."""
    learning_rate: float
    """Initial learning rate, which the schedule scales."""
    weight_decay: float
    """Decay of the matrices C, W1 and W2: `p -= lr * weight_decay * p` in each step."""
    seed: int
    """Seed for the initial parameters and the minibatches."""
    n_steps: int
    """Planned optimizer steps."""
    n_segments: int
    """Dev evaluations within the planned steps, the last one at `n_steps`."""
    batch_size: int
    """Examples or contexts per step."""
    init: Init
    """Initialization of the parameters."""
    schedule: Schedule
    """Schedule of the learning rate."""
    averaging: Averaging
    """Which weights are scored."""
    optimizer: Optimizer = "sgd"
    """The optimizer."""
    targets: Targets = "examples"
    """What minibatches are drawn from."""
    context_noise: float = 0.0
    """Probability that the oldest character of a context is replaced by a draw from the unigram
    of train; it falls linearly to 0 at the newest character."""
    evaluations: Evaluations = "even"
    """Spacing of the dev evaluations."""
    patience: int = 0
    """Dev evaluations without improvement after which a trial ends and is scored by the weights of
    its best evaluation; with 0 it trains to the last planned step and scores the last weights."""
    extend_to: float = 1.0
    """Multiple of the planned steps up to which a trial continues while its dev loss improves; used
    only with `patience` and a constant learning rate."""
    cut_at: float = 0.5
    """Share of the planned steps before the schedule `step` cuts the learning rate."""
    cut_factor: float = 0.1
    """Factor by which that cut multiplies the learning rate."""

    def __post_init__(self) -> None:
        for name, (least, most) in _LIMITS.items():
            value = getattr(self, name)
            if value < least:
                rule = f"at least {least}" if least else "0 or more"
                raise InputError(f"{name} must be {rule}, got {value}")
            if not value <= most:  # NaN is not below anything
                raise InputError(f"{name} must be at most {most:,}, got {value}")
        if not 1 <= self.n_segments <= self.n_steps:
            raise InputError(
                f"n_segments must be between 1 and n_steps ({self.n_steps}), got {self.n_segments}"
            )
        if not 0 < self.learning_rate <= sys.float_info.max:
            raise InputError(f"learning_rate must be above 0, got {self.learning_rate}")
        for name, choice in CHOICES.items():
            if getattr(self, name) not in get_args(choice):
                raise InputError(
                    f"{name} must be one of {get_args(choice)}, got {getattr(self, name)!r}"
                )

    def n_parameters(self, vocab_size: int) -> int:
        """Return the number of parameters in C, W1, b1, W2 and b2."""
        inputs = self.block_size * self.embedding_dim
        return (
            vocab_size * self.embedding_dim
            + (inputs + 1) * self.hidden_width
            + (self.hidden_width + 1) * vocab_size
        )

    @property
    def max_steps(self) -> int:
        """Steps after which a trial ends at the latest."""
        may_extend = self.patience and self.schedule == "constant"
        return int(self.n_steps * self.extend_to) if may_extend else self.n_steps

    def segment_end(self, segment: int) -> int:
        """Return the number of steps at the end of a segment; 0 for segment 0.

        Segments beyond `n_segments` continue the spacing up to `max_steps`.
        """
        if segment == 0:
            return 0
        if self.evaluations == "even":
            end = segment * self.n_steps // self.n_segments
        else:
            # One step per segment plus a geometric series, so that no two ends are equal.
            to_plan = (self.n_segments - segment) / max(1, self.n_segments - 1)
            end = segment + round((self.n_steps - self.n_segments) * GROWTH**-to_plan)
        return min(end, self.max_steps)

    def has_ended(self, dev_losses: Sequence[float]) -> bool:
        """Return whether a trial ends after these dev losses, one per segment.

        It ends at `max_steps`. With `patience` it also ends after so many evaluations without
        improvement, and beyond the planned steps after the first one.
        """
        n_done = len(dev_losses)
        if n_done == 0:
            return False
        if self.segment_end(n_done) >= self.max_steps:
            return True
        if not self.patience:
            return False
        n_since_best = n_done - 1 - best_index(dev_losses)
        return n_since_best >= (self.patience if n_done < self.n_segments else 1)

    def score_index(self, dev_losses: Sequence[float]) -> int:
        """Return the index of the evaluation whose weights are the model: the best or the last."""
        return best_index(dev_losses) if self.patience else len(dev_losses) - 1

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> TrialSpec:
        """Return the spec that `to_json` of this or an earlier version wrote.

        Raises:
            InputError: a field is unknown, missing or has the wrong type.
        """
        kinds, needed = _fields()
        if odd := sorted((needed - values.keys()) | (values.keys() - kinds.keys())):
            raise InputError(
                f"a trial's spec does not have the fields this version expects: {', '.join(odd)}"
            )
        for name in values:
            if type(values[name]) not in kinds[name]:
                raise InputError(f"a trial's spec has a wrong {name}: {values[name]!r}")
        return cls(**values)


def best_index(dev_losses: Sequence[float]) -> int:
    """Return the index of the lowest dev loss, the first of equal ones."""
    return min(range(len(dev_losses)), key=dev_losses.__getitem__)


@lru_cache
def _fields() -> tuple[Mapping[str, tuple[type, ...]], frozenset[str]]:
    """Return the types that each field takes, and the fields without a default.

    To find them anew takes longer than to read a record.
    """
    taken: dict[Any, tuple[type, ...]] = {float: (int, float), int: (int,)}
    kinds = {name: taken.get(kind, (str,)) for name, kind in get_type_hints(TrialSpec).items()}
    fields = dataclasses.fields(TrialSpec)
    return kinds, frozenset(f.name for f in fields if f.default is dataclasses.MISSING)
