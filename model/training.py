"""The training of one segment of a trial, as a pure function."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import torch

from mmsearch.data.contexts import build_contexts, distinct
from mmsearch.errors import MMSearchError
from mmsearch.model.averaging import STRIDE, State, average_in
from mmsearch.model.curve import CurvePoint
from mmsearch.model.evaluation import Scored, mean_losses
from mmsearch.model.kernel import Kernel
from mmsearch.model.minibatches import Distributions, Examples, add_noise
from mmsearch.model.mlp import init_parameters
from mmsearch.model.schedule import learning_rates

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from mmsearch.data.corpus import Vocabulary
    from mmsearch.model.minibatches import Source
    from mmsearch.model.spec import Targets, TrialSpec

POINTS_A_TRIAL = 200
"""Points of a trial's minibatch loss curve, about; each is a mean since the previous point."""
MAX_IDS_AT_ONCE = 2**22
"""Numbers in the minibatches drawn at once, about, which limits the memory of large batches."""
MAX_LOSS_NATS = 1e4
"""Loss above which a trial has diverged; whether its weights would overflow depends on rounding."""


class DivergedError(MMSearchError):
    """The loss or a parameter is not finite, or the loss is above `MAX_LOSS_NATS`."""


@dataclass(frozen=True, slots=True)
class Segment:
    """The result of a segment."""

    state: State
    """State after the segment, float32; only the model if the trial has ended."""
    curve: tuple[CurvePoint, ...]
    dev_loss: float
    """Dev loss of the weights after the segment, in nats per character."""
    dev_parts: Mapping[str, float]
    """Dev loss on parts of dev, by name."""
    train_loss: float
    """Loss of the same weights on a fixed part of train, in nats per character."""


class TrialData:
    """The data that trials of one block size train on and are scored on."""

    def __init__(
        self,
        train: Sequence[str],
        dev: Sequence[str],
        vocabulary: Vocabulary,
        block_size: int,
        targets: Targets = "examples",
    ) -> None:
        """Build the examples of both splits.

        Args:
            train: words to train on; the train loss is that of the first ones, as many as in dev.
            dev: words to score on.
            vocabulary: has every character of both.
            block_size: context length.
            targets: what minibatches are drawn from.
        """
        self.vocab_size = vocabulary.size
        known = frozenset(train)
        is_known = [word in known for word in dev]
        parts = {"half_1": [n % 2 == 0 for n in range(len(dev))]}
        parts["half_2"] = [not is_in for is_in in parts["half_1"]]
        if any(is_known):
            parts |= {"in_train": is_known, "not_in_train": [not is_in for is_in in is_known]}
        self.dev = Scored.of(dev, vocabulary, block_size, parts)
        self.train_part = Scored.of(train[: len(dev)], vocabulary, block_size)
        self.block_size = block_size
        contexts = build_contexts(train, vocabulary, block_size)
        counts_V = torch.bincount(contexts.targets, minlength=vocabulary.size)
        self.unigram_ends = (counts_V.cumsum(0) / len(contexts)).float()
        self.source: Source = (
            Examples(contexts, vocabulary.size)
            if targets == "examples"
            else Distributions(distinct(contexts), vocabulary.size)
        )

    @property
    def n_bytes(self) -> int:
        """Memory not shared with other data, in bytes."""
        return self.dev.n_bytes + self.train_part.n_bytes + self.source.n_bytes

    def narrowed(self, block_size: int) -> TrialData:
        """Return the data of the same words at a smaller block size, equal bit for bit to new data.

        A context of T characters is the end of a longer one.
        """
        data = copy.copy(self)
        data.block_size = block_size
        data.dev = self.dev.narrowed(block_size)
        data.train_part = self.train_part.narrowed(block_size)
        data.source = self.source.narrowed(block_size)
        return data


def train_segment(
    spec: TrialSpec, dev_losses: Sequence[float], before: State | None, data: TrialData
) -> Segment:
    """Train the next segment of a trial and score it on dev.

    A pure function: minibatches are drawn with a seed made of the trial's seed and the segment, so
    that equal arguments give equal bits on the same machine, versions and number of torch threads.

    Args:
        spec: the trial's spec.
        dev_losses: dev losses of its segments so far.
        before: state after the last of them, None before the first; not changed.
        data: data of this spec's block size and targets.

    Raises:
        DivergedError: a weight is not finite, or a loss is not at most `MAX_LOSS_NATS`.
    """
    segment = len(dev_losses) + 1
    if spec.learning_rate * max(1.0, spec.weight_decay) > torch.finfo(torch.float32).max:
        raise DivergedError(
            f"learning_rate {spec.learning_rate} with weight_decay {spec.weight_decay} leaves no "
            f"finite weight at step 1 of {spec.n_steps}"
        )
    if before is None:
        before = State(init_parameters(spec, data.vocab_size, _generator(spec.seed, 0)))
    start, end = spec.segment_end(segment - 1), spec.segment_end(segment)
    kernel = Kernel(
        before.iterate or before.parameters,
        batch_size=spec.batch_size,
        weight_decay=spec.weight_decay,
        optimizer=spec.optimizer,
    )
    if before.moments is not None:
        kernel.moments = kernel.pack(before.moments[0]), kernel.pack(before.moments[1])
        kernel.n_done = start
    is_averaged = spec.averaging != "none"
    mean = kernel.pack(before.mean or before.parameters) if is_averaged else None
    curve = _take_steps(spec, kernel, mean, data, _generator(spec.seed, segment), (start, end))
    iterate = kernel.parameters
    scored = iterate if mean is None else kernel.unpack(mean)
    dev_loss, dev_parts = mean_losses(scored, data.dev)
    finite = all(
        bool(tensor.isfinite().all())
        for parameters in (iterate, scored)
        for tensor in parameters.named().values()
    )
    if not (finite and dev_loss <= MAX_LOSS_NATS):
        raise DivergedError(f"the dev loss is {_beyond(dev_loss)} at step {end} of {spec.n_steps}")
    train_loss, _ = mean_losses(scored, data.train_part)
    losses = [*dev_losses, dev_loss]
    is_model = spec.score_index(losses) == segment - 1
    state = State(scored if is_model else before.parameters)
    if not spec.has_ended(losses):
        pair = kernel.moments
        moments = pair and (kernel.unpack(pair[0]), kernel.unpack(pair[1]))
        state = State(
            state.parameters,
            iterate=None if is_model and mean is None else iterate,
            mean=None if is_model or mean is None else scored,
            moments=moments,
        )
    return Segment(state, curve, dev_loss, dev_parts, train_loss)


def _take_steps(  # noqa: PLR0913, PLR0917 (all made by `train_segment`)
    spec: TrialSpec,
    kernel: Kernel,
    mean: Tensor | None,
    data: TrialData,
    generator: torch.Generator,
    span: tuple[int, int],
) -> tuple[CurvePoint, ...]:
    """Train over a span of steps, averaging the weights into `mean`.

    Raises:
        DivergedError: a minibatch's loss is not at most `MAX_LOSS_NATS`.
    """
    curve = []
    for first, last in pairwise(_bounds(spec, data.source.n_ids, *span)):
        rates = learning_rates(spec, first, last)
        drawn = data.source.draw(last - first, spec.batch_size, generator)
        if spec.context_noise:
            noisy = add_noise(drawn.inputs, spec.context_noise, data.unigram_ends, generator)
            drawn = replace(drawn, inputs=noisy)
        losses = []
        stride = last - first if mean is None else STRIDE
        for done in range(0, last - first, stride):
            part = slice(done, min(done + stride, last - first))
            losses.append(kernel.steps(drawn.part(part), rates[part].tolist()))
            if mean is not None:
                average_in(mean, kernel.flat, first + part.start, first + part.stop)
        step_losses = torch.cat(losses)
        is_lost = ~(step_losses <= MAX_LOSS_NATS)  # also for NaN
        if bool(is_lost.any()):
            index = int(is_lost.nonzero()[0])
            lost, step = float(step_losses[index]), first + index + 1
            raise DivergedError(
                f"the train loss is {_beyond(lost)} at step {step} of {spec.n_steps}"
            )
        curve.append(CurvePoint(last, float(step_losses.double().mean()), float(rates[-1])))
    return tuple(curve)


def _bounds(spec: TrialSpec, ids_a_context: int, start: int, end: int) -> list[int]:
    """Return the bounds between which minibatches are drawn at once and averaged to one point."""
    n_ids = (end - start) * spec.batch_size * ids_a_context
    n_points = max(1, round(POINTS_A_TRIAL / spec.n_segments), n_ids // MAX_IDS_AT_ONCE)
    if spec.evaluations == "growing" and n_ids <= MAX_IDS_AT_ONCE:
        n_points = min(n_points, max(1, (end - start) // STRIDE))
    bounds = np.linspace(start, end, min(n_points, end - start) + 1)
    return [int(step) for step in bounds]


def _beyond(loss: float) -> str:
    """Describe a diverged loss."""
    return f"{loss:.1e} nats" if MAX_LOSS_NATS < loss < math.inf else "not finite"


def _generator(seed: int, segment: int) -> torch.Generator:
    """Return a generator seeded by both numbers, so that segments draw independently."""
    state = np.random.SeedSequence([seed, segment]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0]))
