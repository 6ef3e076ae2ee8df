"""One segment of one trial: the pure function that everything else rests on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import torch

from mmsearch.errors import MMSearchError
from mmsearch.model.averaging import STRIDE, State, average_in
from mmsearch.model.evaluation import mean_loss
from mmsearch.model.kernel import SGDKernel
from mmsearch.model.mlp import init_parameters
from mmsearch.model.schedule import learning_rates

if TYPE_CHECKING:
    from mmsearch.data.contexts import Contexts, DistinctContexts
    from mmsearch.model.spec import TrialSpec

POINTS_A_TRIAL = 200
"""Points of the train curve, about; each is a mean over the steps since the one before."""
MAX_IDS_AT_ONCE = 2**22
"""Characters of minibatches drawn at once, about; bounds the memory of large batches."""
MAX_LOSS_NATS = 1e4
"""A loss above it has diverged: no start is near it, and no schedule comes back from it.

Whether such weights overflow soon or never depends on how a processor rounds."""


class DivergedError(MMSearchError):
    """The loss or a parameter is no longer a finite number, or the loss is beyond all bounds.

    Its message ends with `at step S of N`.
    """


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """The train loss around one step."""

    step: int
    """Steps done so far."""
    loss_nats: float
    """Mean loss of the minibatches since the point before."""
    learning_rate: float
    """Of the last of those steps."""


@dataclass(frozen=True, slots=True)
class Segment:
    """What one segment gives."""

    state: State
    """The weights after it, float32; without an iterate where the trial has ended."""
    curve: tuple[CurvePoint, ...]
    dev_loss: float
    """Of the model among them, in nats a character."""


def train_segment(  # noqa: PLR0913 (the inputs of a pure function)
    spec: TrialSpec,
    segment: int,
    before: State | None,
    train: Contexts,
    dev: DistinctContexts,
    *,
    vocab_size: int,
) -> Segment:
    """Train segment `segment` of a trial (1 to `spec.n_segments`) and score it on dev.

    Pure: minibatches come from a generator seeded by (trial seed, segment), so the same input
    gives the same bits in any process with as many torch threads, on the same machine and versions.

    Args:
        spec: the trial.
        segment: which one.
        before: the weights after the segment before, None before the first; not changed.
        train: examples to draw minibatches from, with replacement, at this spec's block size.
        dev: what the weights are scored on.
        vocab_size: V.

    Raises:
        DivergedError: a weight is not finite, or a loss is not at most `MAX_LOSS_NATS`; names the
            step.
    """
    if before is None:
        before = State(init_parameters(spec, vocab_size, _generator(spec.seed, 0)))
    if spec.learning_rate * max(1.0, spec.weight_decay) > torch.finfo(torch.float32).max:
        raise DivergedError(
            f"learning_rate {spec.learning_rate} with weight_decay {spec.weight_decay} leaves no "
            f"finite weight at step 1 of {spec.n_steps}"
        )
    generator = _generator(spec.seed, segment)
    kernel = SGDKernel(
        before.iterate or before.parameters,
        batch_size=spec.batch_size,
        weight_decay=spec.weight_decay,
    )
    mean = None if spec.averaging == "none" else before.parameters.map(torch.clone)
    start, end = spec.segment_end(segment - 1), spec.segment_end(segment)
    n_ids = (end - start) * spec.batch_size * spec.block_size
    n_points = max(1, round(POINTS_A_TRIAL / spec.n_segments), n_ids // MAX_IDS_AT_ONCE)
    bounds = np.linspace(start, end, min(n_points, end - start) + 1).astype(int).tolist()
    curve = []
    for first, last in pairwise(bounds):
        rates = learning_rates(spec, first, last)
        chosen = torch.randint(
            len(train.targets), (last - first, spec.batch_size), generator=generator
        )
        inputs, targets = train.inputs[chosen], train.targets[chosen]
        losses = []
        stride = last - first if mean is None else STRIDE
        for done in range(0, last - first, stride):
            part = slice(done, min(done + stride, last - first))
            losses.append(kernel.steps(inputs[part], targets[part], rates[part].tolist()))
            if mean is not None:
                average_in(mean, kernel.parameters, first + part.start, first + part.stop)
        step_losses = torch.cat(losses).mean(1)
        is_lost = ~(step_losses <= MAX_LOSS_NATS)  # NaN is not below anything
        if bool(is_lost.any()):
            index = int(is_lost.nonzero()[0])
            lost, step = float(step_losses[index]), first + index + 1
            raise DivergedError(
                f"the train loss is {_beyond(lost)} at step {step} of {spec.n_steps}"
            )
        curve.append(CurvePoint(last, float(step_losses.double().mean()), float(rates[-1])))
    has_ended = segment == spec.n_segments
    state = State(kernel.parameters) if mean is None else State(mean, kernel.parameters)
    dev_loss = mean_loss(state.parameters, dev)
    finite = all(
        bool(tensor.isfinite().all())
        for parameters in (kernel.parameters, state.parameters)
        for tensor in parameters.named().values()
    )
    if not (finite and dev_loss <= MAX_LOSS_NATS):
        raise DivergedError(f"the dev loss is {_beyond(dev_loss)} at step {end} of {spec.n_steps}")
    return Segment(State(state.parameters) if has_ended else state, tuple(curve), dev_loss)


def _beyond(loss: float) -> str:
    """Say what is wrong with a loss that has diverged, or with its weights."""
    return f"{loss:.1e} nats" if MAX_LOSS_NATS < loss < math.inf else "not finite"


def _generator(seed: int, segment: int) -> torch.Generator:
    """Seed a generator from both numbers, so that no two segments share their draws."""
    state = np.random.SeedSequence([seed, segment]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0]))
