"""The weights that a trial is judged by: a mean over where SGD has been.

At a constant learning rate the weights of one step are noisy, and their mean is not: the noise
averages out where a schedule would have to anneal it away. The mean after t steps is what a trial
of t steps would end with, so a dev loss on the way is a fair guess at the last one. See
`docs/log.md` for what it is worth.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
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
    """Where SGD goes on from, if that is not the model itself."""


@torch.inference_mode()
def average_in(mean: Parameters, iterate: Parameters, start: int, end: int) -> None:
    """Take the weights after step `end` into a mean over the steps until `start`, in place.

    Polynomial-decay averaging (Shamir and Zhang, 2013, section 4) in a form that needs no count:
    the steps from `start` to `end` have 1 - (start / end) ** (POWER + 1) of all the weight so far.

    Args:
        mean: changed; ignored where `start` is 0.
        iterate: the same shapes.
        start: steps that are in the mean.
        end: steps done; above `start`.
    """
    share = 1 - (start / end) ** (POWER + 1)
    for old, new in zip(mean.named().values(), iterate.named().values(), strict=True):
        old.lerp_(new, share)
