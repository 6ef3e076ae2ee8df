"""The mean of the weights over the optimizer's steps, by which a trial is scored.

At a constant learning rate the weights of a single step are noisy, and their mean is not, so that
no schedule has to anneal the noise away. The mean after t steps is that of a trial of t steps, so
an early dev loss predicts the last one well. docs/log.md has the measured effect.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from mmsearch.model.mlp import Parameters

POWER = 8
"""Step t has weight t ** POWER in the mean, so that the last quarter of the steps is 9/10 of it."""
STRIDE = 50
"""Steps between two sets of weights that enter the mean."""


@dataclass(frozen=True, slots=True)
class State:
    """The state of a trial between two segments."""

    parameters: Parameters
    """The model, which is scored, sampled from and tested."""
    iterate: Parameters | None = None
    """Weights that training continues from, if they are not the model."""
    mean: Parameters | None = None
    """Running mean of the weights, if the model is not it but that of an earlier segment."""
    moments: tuple[Parameters, Parameters] | None = None
    """Adam's first and second moment."""


def average_in(mean: Tensor, iterate: Tensor, start: int, end: int) -> None:
    """Add the weights after step `end` to a mean over the steps up to `start`, in place.

    Polynomial-decay averaging (Shamir and Zhang, 2013, section 4): the steps from `start` to `end`
    get the share 1 - (start / end) ** (POWER + 1) of the mean.

    Args:
        mean: the mean, changed in place; its value is ignored if `start` is 0.
        iterate: the weights after step `end`, of the same shape.
        start: number of steps in the mean.
        end: number of steps done, above `start`.
    """
    mean.lerp_(iterate, 1 - (start / end) ** (POWER + 1))
