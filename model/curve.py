"""The minibatch loss curve of a training; needs no torch, so that a journal can hold it."""

from __future__ import annotations

from typing import NamedTuple


class CurvePoint(NamedTuple):
    """A point of the minibatch loss curve."""

    step: int
    """Number of steps done."""
    loss_nats: float
    """Mean loss of the minibatches since the previous point, in nats per character."""
    learning_rate: float
    """Learning rate of the last step."""
