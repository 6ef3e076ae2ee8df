"""The learning-rate range test: a short training at a growing rate, and the loss at each rate.

Smith (2017), "Cyclical learning rates for training neural networks", in makemore's form: rates
spaced evenly on a log scale, one optimizer step each.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from mmsearch.model.kernel import Kernel
from mmsearch.model.mlp import init_parameters
from mmsearch.model.training import MAX_IDS_AT_ONCE, MAX_LOSS_NATS

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from mmsearch.model.minibatches import Source
    from mmsearch.model.spec import TrialSpec

SMOOTHED = 0.05
"""Window of the losses' moving mean, as a share of the steps."""
FLOOR = 0.1
"""Distance from the lowest loss within which rates are suggested, as a share of the loss's fall."""


def rates(low: float, high: float, n_steps: int) -> NDArray[np.float64]:
    """Return learning rates spaced evenly on a log scale, both ends included; shape (n_steps,)."""
    return np.logspace(np.log10(low), np.log10(high), n_steps)


def range_losses(
    spec: TrialSpec, learning_rates: NDArray[np.float64], source: Source, *, vocab_size: int
) -> NDArray[np.float64]:
    """Take one optimizer step at each learning rate in turn.

    Args:
        spec: sizes, initialization, batch size, weight decay and seed; its steps and learning rate
            are ignored.
        learning_rates: learning rate of each step, shape (S,).
        source: source of minibatches at this spec's block size.
        vocab_size: V.

    Returns:
        The loss of each step's minibatch before its update, in nats per character, shape (S,);
        infinite from the first loss on that is NaN or above `MAX_LOSS_NATS`.
    """
    generator = torch.Generator().manual_seed(spec.seed)
    parameters = init_parameters(spec, vocab_size, generator)
    kernel = Kernel(
        parameters,
        batch_size=spec.batch_size,
        weight_decay=spec.weight_decay,
        optimizer=spec.optimizer,
    )
    # Drawn in pieces, since all minibatches of a long test may not fit into memory.
    at_once = max(1, MAX_IDS_AT_ONCE // (spec.batch_size * source.n_ids))
    losses = [
        kernel.steps(source.draw(len(rates), spec.batch_size, generator), rates.tolist())
        for rates in np.split(learning_rates, range(at_once, len(learning_rates), at_once))
    ]
    means = torch.cat(losses).double().numpy()
    is_lost = np.maximum.accumulate(~(means <= MAX_LOSS_NATS))  # NaN is not below anything
    return np.where(is_lost, np.inf, means)


@dataclass(frozen=True, kw_only=True, slots=True)
class Valley:
    """The range of learning rates that a range test suggests."""

    low: float
    """Lowest suggested learning rate, to two significant digits."""
    high: float
    """Highest suggested learning rate, to two significant digits."""
    best: float
    """Learning rate with the lowest loss."""
    best_loss: float
    """Lowest loss, in nats per character."""


def smoothed(losses: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return each seed's moving mean over `SMOOTHED` of the steps; shape (n_seeds, S).

    At both ends the window is cut off.
    """
    n_steps = losses.shape[1]
    half = max(1, round(SMOOTHED * n_steps)) // 2
    index = np.arange(n_steps)
    first, after = np.maximum(index - half, 0), np.minimum(index + half + 1, n_steps)
    lost = np.isinf(losses).cumsum(1) > 0
    total = np.concatenate(
        [np.zeros((len(losses), 1)), np.where(lost, 0, losses).cumsum(1)], axis=1
    )
    means = (total[:, after] - total[:, first]) / (after - first)
    return np.where(lost[:, after - 1], np.inf, means)


def valley(learning_rates: NDArray[np.float64], losses: NDArray[np.float64]) -> Valley | None:
    """Suggest the learning rates around the lowest loss, up to `FLOOR` of the loss's fall above it.

    The loss is the median over the seeds of their moving means; its fall is the distance from the
    first to the lowest value.

    Args:
        learning_rates: learning rate of each step, shape (S,).
        losses: losses of each seed, shape (n_seeds, S).

    Returns:
        The range; None if no rate lowered the loss.
    """
    typical = np.median(smoothed(losses), axis=0)
    best = int(typical.argmin())
    fall = float(typical[0] - typical[best])
    if not fall > 0:
        return None
    is_above = typical > typical[best] + FLOOR * fall
    before, after = np.flatnonzero(is_above[:best]), np.flatnonzero(is_above[best:])
    first = int(before[-1]) + 1 if len(before) else 0
    last = best + int(after[0]) - 1 if len(after) else len(typical) - 1
    return Valley(
        low=_rounded(learning_rates[first], math.floor),
        high=_rounded(learning_rates[last], math.ceil),
        best=float(learning_rates[best]),
        best_loss=float(typical[best]),
    )


def _rounded(value: float, to_whole: Callable[[float], int]) -> float:
    """Round to two significant digits, up or down."""
    exponent = math.floor(math.log10(value)) - 1
    # Rounded first, since 0.3 may be 2.9999999999999996 tenths.
    return float(f"{to_whole(round(value / 10.0**exponent, 6))}e{exponent}")
