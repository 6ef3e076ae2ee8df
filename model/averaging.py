"""The weights that a trial is judged by: a mean over the optimizer's steps.

At a constant learning rate the weights of one step are noisy, and their mean is not: the noise
averages out where a schedule would have to anneal it away. The mean after t steps is what a trial
of t steps would end with, so a dev loss on the way is a fair guess at the last one. See
`docs/log.md` for what it is worth.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from mmsearch.model.mlp import Parameters

POWER = 8
"""Step t weighs as t ** POWER in the mean: nine tenths of it are the last quarter of the steps."""
STRIDE = 50
"""Steps from one set of weights that goes into the mean to the next."""


@dataclass(frozen=True, slots=True)
class State:
    """Where a trial stands between two segments."""

    parameters: Parameters
    """The model: what is scored, sampled from and tested."""
    iterate: Parameters | None = None
    """Weights that the optimizer goes on from, where these are not the model."""
    mean: Parameters | None = None
    """Running mean of the weights, where it is not the model: the model is an earlier one then."""
    moments: tuple[Parameters, Parameters] | None = None
    """Adam's first and second moment."""


def average_in(mean: Tensor, iterate: Tensor, start: int, end: int) -> None:
    """Take the weights after step `end` into a mean over the steps until `start`, in place.

    Polynomial-decay averaging (Shamir and Zhang, 2013, section 4) in a form that needs no count:
    the steps from `start` to `end` have 1 - (start / end) ** (POWER + 1) of all the weight so far.

    Args:
        mean: changed; ignored where `start` is 0.
        iterate: the same shape.
        start: steps that are in the mean.
        end: steps done; above `start`.
    """
    mean.lerp_(iterate, 1 - (start / end) ** (POWER + 1))
