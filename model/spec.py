"""What a trained model follows from, besides the words it is trained on."""

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
"""`polynomial` scores a mean over the steps, the late ones most; `none` the last step's weights."""

Optimizer = Literal["sgd", "adam"]
"""`adam` decays the weights apart from the gradient (Loshchilov and Hutter, 2019)."""

Targets = Literal["examples", "contexts"]
"""`examples` draws one next character an example, as the article does; `contexts` draws distinct
contexts by their counts, each with the distribution of all next characters seen after it."""

Evaluations = Literal["even", "growing"]
"""`even` spaces the evaluations on dev evenly; `growing` puts them close together at first."""

GROWTH = 80
"""With growing evaluations, the steps before the last planned one over those before the first."""

CHOICES = {
    "init": Init,
    "schedule": Schedule,
    "averaging": Averaging,
    "optimizer": Optimizer,
    "targets": Targets,
    "evaluations": Evaluations,
}
"""The fields of a spec that take one of a few words."""

MAX_SIZE = 10**6
"""Largest embedding, layer or context: more takes more memory than a worker has."""
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
"""The lowest and the highest value of numbers in a spec."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialSpec:
    """One trial: its hyperparameters, its seed, its recipe and its budget.

    A field with a default came after version 0.1; the default means what that version did.

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
    """Initial learning rate; the schedule scales it."""
    weight_decay: float
    """Decay of the three matrices C, W1 and W2: `p -= lr * weight_decay * p` in each step."""
    seed: int
    """Seed for the initial parameters and the minibatches."""
    n_steps: int
    """Planned optimizer steps."""
    n_segments: int
    """Dev evaluations within the planned steps, the last one at `n_steps`."""
    batch_size: int
    """Examples or contexts drawn a step."""
    init: Init
    """How the parameters start."""
    schedule: Schedule
    """How the learning rate changes over the steps."""
    averaging: Averaging
    """Which weights are scored: see `averaging`."""
    optimizer: Optimizer = "sgd"
    """What turns a gradient into a step."""
    targets: Targets = "examples"
    """What a minibatch is drawn from."""
    context_noise: float = 0.0
    """Probability that the oldest character of a context is replaced by a draw from the unigram
    of train; it falls linearly to 0 at the newest character."""
    evaluations: Evaluations = "even"
    """How the steps are spread over the evaluations."""
    patience: int = 0
    """Dev evaluations without an improvement after which a trial ends, scored by the weights of
    its best evaluation; 0 trains to the last planned step and scores the last weights."""
    extend_to: float = 1.0
    """How many times the planned steps a trial may take while its dev loss still improves; counts
    only with `patience` and at a constant learning rate."""
    cut_at: float = 0.5
    """Share of the planned steps before the cut of schedule `step`."""
    cut_factor: float = 0.1
    """What that cut multiplies the learning rate with."""

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
        """Count the numbers in C, W1, b1, W2 and b2."""
        inputs = self.block_size * self.embedding_dim
        return (
            vocab_size * self.embedding_dim
            + (inputs + 1) * self.hidden_width
            + (self.hidden_width + 1) * vocab_size
        )

    @property
    def max_steps(self) -> int:
        """Steps after which a trial ends in any case."""
        may_extend = self.patience and self.schedule == "constant"
        return int(self.n_steps * self.extend_to) if may_extend else self.n_steps

    def segment_end(self, segment: int) -> int:
        """Return the steps done when segment `segment` has ended; 0 is the start.

        Segments beyond `n_segments` go on at the same spacing, up to `max_steps`.
        """
        if segment == 0:
            return 0
        if self.evaluations == "even":
            end = segment * self.n_steps // self.n_segments
        else:
            # A step a segment, and the others in a geometric series, so that no two ends are equal.
            to_plan = (self.n_segments - segment) / max(1, self.n_segments - 1)
            end = segment + round((self.n_steps - self.n_segments) * GROWTH**-to_plan)
        return min(end, self.max_steps)

    def has_ended(self, dev_losses: Sequence[float]) -> bool:
        """Whether a trial ends after these dev losses, one a segment.

        It ends at `max_steps`; with `patience`, also where so many evaluations in a row have not
        improved on the best one, and beyond the planned steps where the latest one has not.
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
        """Return which evaluation's weights are the model, counted from 0: the best or the last."""
        return best_index(dev_losses) if self.patience else len(dev_losses) - 1

    def to_json(self) -> dict[str, Any]:
        """Give the fields as JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> TrialSpec:
        """Read back what `to_json` gave.

        Raises:
            InputError: a field is unknown or of the wrong type, or one of version 0.1 is missing.
        """
        fields = {field.name for field in dataclasses.fields(cls)}
        needed = {f.name for f in dataclasses.fields(cls) if f.default is dataclasses.MISSING}
        if odd := sorted((needed - set(values)) | (set(values) - fields)):
            raise InputError(
                f"a trial's spec does not have the fields this version expects: {', '.join(odd)}"
            )
        for name in values:
            kind = _kinds()[name]
            wanted = (int, float) if kind is float else (int,) if kind is int else (str,)
            if isinstance(values[name], bool) or not isinstance(values[name], wanted):
                raise InputError(f"a trial's spec has a wrong {name}: {values[name]!r}")
        return cls(**values)


def best_index(dev_losses: Sequence[float]) -> int:
    """Return where the lowest dev loss stands, the first of equals."""
    return min(range(len(dev_losses)), key=dev_losses.__getitem__)


@lru_cache
def _kinds() -> Mapping[str, Any]:
    """Give the type of each field; to find them anew takes longer than to read a record."""
    return get_type_hints(TrialSpec)
