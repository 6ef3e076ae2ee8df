"""Minibatches of examples, or of distinct contexts with the distributions of next characters.

Both have the same expected gradient. The second has less noise, since a distinct context has all
its next characters as targets, and stratified draws visit the contexts evenly.

Shape suffixes: S steps, B contexts a step, T block_size, M distinct contexts, V vocab_size, and R
for the (context, next character) pairs of S minibatches.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from mmsearch.data.contexts import Contexts, DistinctContexts


@dataclass(frozen=True, slots=True, eq=False)
class Minibatches:
    """S minibatches of B contexts, each with one or more weighted next characters."""

    inputs: Tensor
    """Ids, int32, shape (S, B, T)."""
    positions: Tensor
    """Indices of the next characters in each step's flattened (B, V) logits, int64, shape (R,)."""
    weights: Tensor
    """Probability of each given its context, float32, shape (R,)."""
    sizes: Tensor
    """Number of pairs in each step, int64, shape (S,); the sum is R."""

    @classmethod
    def of_examples(cls, inputs_SBT: Tensor, targets_SB: Tensor, vocab_size: int) -> Minibatches:
        """Return minibatches of contexts with one next character each."""
        n_steps, batch_size = targets_SB.shape
        return cls(
            inputs=inputs_SBT,
            positions=(targets_SB + torch.arange(batch_size) * vocab_size).view(-1),
            weights=torch.ones(targets_SB.numel()),
            sizes=torch.full((n_steps,), batch_size),
        )

    def part(self, steps: slice) -> Minibatches:
        """Return the minibatches of consecutive steps."""
        first = int(self.sizes[: steps.start].sum())
        pairs = slice(first, first + int(self.sizes[steps].sum()))
        return Minibatches(
            self.inputs[steps], self.positions[pairs], self.weights[pairs], self.sizes[steps]
        )


class Source(Protocol):
    """A source of minibatches."""

    @property
    def n_ids(self) -> int:
        """Numbers stored per drawn context, about, which limits how many are drawn at once."""

    @property
    def n_bytes(self) -> int:
        """Memory that it shares with no other source, in bytes."""

    def draw(self, n_steps: int, batch_size: int, generator: torch.Generator) -> Minibatches:
        """Draw the minibatches of some steps."""

    def narrowed(self, block_size: int) -> Source:
        """Return the source that the same words give at a smaller block size."""


@dataclass(frozen=True, slots=True, eq=False)
class Examples:
    """Single examples, drawn with replacement, as in makemore."""

    contexts: Contexts
    vocab_size: int
    is_narrowed: bool = False
    """Whether the contexts share the memory of another source."""

    @property
    def n_ids(self) -> int:
        """Numbers stored per drawn context."""
        return self.contexts.block_size

    @property
    def n_bytes(self) -> int:
        """Memory that it shares with no other source, in bytes."""
        if self.is_narrowed:
            return 0
        return self.contexts.inputs.nbytes + self.contexts.targets.nbytes

    def draw(self, n_steps: int, batch_size: int, generator: torch.Generator) -> Minibatches:
        """Draw the minibatches of some steps."""
        chosen = torch.randint(len(self.contexts), (n_steps, batch_size), generator=generator)
        inputs, targets = self.contexts.inputs[chosen], self.contexts.targets[chosen]
        return Minibatches.of_examples(inputs, targets, self.vocab_size)

    def narrowed(self, block_size: int) -> Examples:
        """Return the same examples at a smaller block size, sharing memory."""
        return Examples(self.contexts.narrowed(block_size), self.vocab_size, is_narrowed=True)


class Distributions:
    """Distinct contexts, drawn by their counts, with the distributions of next characters.

    The draws are stratified: each of the S * B strata of equal probability gives one context, in
    random order.
    """

    def __init__(self, distinct: DistinctContexts, vocab_size: int) -> None:
        """Count the contexts.

        Args:
            distinct: the contexts and next characters of train.
            vocab_size: V.
        """
        self._distinct = distinct
        self._vocab_size = vocab_size
        n_contexts = len(distinct.inputs)
        counts_M = torch.zeros(n_contexts, dtype=torch.int64)
        counts_M.index_add_(0, distinct.pair_context, distinct.pair_count)
        self._ends_M = counts_M.cumsum(0)
        n_pairs_M = torch.bincount(distinct.pair_context, minlength=n_contexts)
        self._n_pairs_M = n_pairs_M
        self._first_pair_M = n_pairs_M.cumsum(0) - n_pairs_M
        n_pairs = float((counts_M * n_pairs_M).sum()) / distinct.n_examples
        self.n_ids = distinct.inputs.shape[1] + round(4 * n_pairs)
        self._weights_P = (distinct.pair_count / counts_M[distinct.pair_context]).float()

    def draw(self, n_steps: int, batch_size: int, generator: torch.Generator) -> Minibatches:
        """Draw the minibatches of some steps."""
        n = n_steps * batch_size
        within = torch.rand(n, generator=generator, dtype=torch.float64)
        at = (torch.arange(n) + within) * (self._distinct.n_examples / n)
        chosen = torch.searchsorted(self._ends_M, at.long(), right=True)
        chosen = chosen[torch.randperm(n, generator=generator)]
        n_pairs = self._n_pairs_M[chosen]
        ends = n_pairs.cumsum(0)
        rows = torch.repeat_interleave(n_pairs)
        pairs = torch.arange(int(ends[-1])) + (self._first_pair_M[chosen] - ends + n_pairs)[rows]
        return Minibatches(
            inputs=self._distinct.inputs[chosen].view(n_steps, batch_size, -1),
            positions=self._distinct.pair_target[pairs] + rows % batch_size * self._vocab_size,
            weights=self._weights_P[pairs],
            sizes=n_pairs.view(n_steps, batch_size).sum(1),
        )

    @property
    def n_bytes(self) -> int:
        """Memory that it shares with no other source, in bytes."""
        counted = (self._ends_M, self._n_pairs_M, self._first_pair_M, self._weights_P)
        return self._distinct.n_bytes + sum(tensor.nbytes for tensor in counted)

    def narrowed(self, block_size: int) -> Distributions:
        """Return the distributions of the same examples at a smaller block size."""
        return Distributions(self._distinct.narrowed(block_size)[0], self._vocab_size)


def add_noise(
    inputs: Tensor, noise: float, unigram_ends: Tensor, generator: torch.Generator
) -> Tensor:
    """Replace characters of contexts by draws from the unigram, the oldest ones most often.

    Xie et al. (2017), "Data noising as smoothing in neural network language models", with a
    probability that falls linearly from `noise` at the oldest character to 0 at the newest.

    Args:
        inputs: ids, int32, shape (..., T); not changed.
        noise: probability for the oldest character.
        unigram_ends: cumulative probabilities of the characters, float32, shape (V,).
        generator: source of the random numbers.

    Returns:
        Ids of the same shape and dtype.
    """
    block_size = inputs.shape[-1]
    share_T = noise * torch.arange(block_size - 1, -1, -1) / max(1, block_size - 1)
    is_replaced = torch.rand(inputs.shape, generator=generator) < share_T
    drawn = torch.rand(int(is_replaced.sum()), generator=generator)
    noisy = inputs.clone()
    ids = torch.searchsorted(unigram_ends, drawn).clamp_(max=len(unigram_ends) - 1)
    noisy[is_replaced] = ids.to(inputs.dtype)
    return noisy
