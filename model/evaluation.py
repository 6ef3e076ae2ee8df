"""Mean losses of a model over words and parts of them.

Examples repeat: at block size 3 makemore's dev split has 22,655 examples but 2,965 distinct
contexts. Each distinct context goes through the network once, and each distinct pair of a context
and its next character is weighted by its count, which gives the same mean.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from mmsearch.data.contexts import build_contexts, distinct
from mmsearch.model.mlp import forward

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor

    from mmsearch.data.contexts import DistinctContexts
    from mmsearch.data.corpus import Vocabulary
    from mmsearch.model.mlp import Parameters

CONTEXTS_AT_ONCE = 1024
"""Rows per forward pass, for which the hidden layer fits into a core's cache."""
_MAX_LOGITS = 2**20
"""Most logits per forward pass, which limits the rows for a large vocabulary."""
_MAX_TABLE = 2**22
"""Most numbers in the table of the first layer; more would not fit into the cache."""


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """Words to score a model on, and parts of them to score separately."""

    contexts: DistinctContexts
    parts: Mapping[str, Tensor]
    """For each part, the count of each distinct pair in it, float64, shape (P,)."""

    @classmethod
    def of(
        cls,
        words: Sequence[str],
        vocabulary: Vocabulary,
        block_size: int,
        parts: Mapping[str, Sequence[bool]] | None = None,
    ) -> Scored:
        """Count the distinct pairs of words.

        Args:
            words: words without the boundary.
            vocabulary: has every character of them.
            block_size: context length.
            parts: for each part, whether each word belongs to it.
        """
        contexts = distinct(build_contexts(words, vocabulary, block_size))
        counts = {}
        for name, is_in_part in (parts or {}).items():
            members = [word for word, is_in in zip(words, is_in_part, strict=True) if is_in]
            if members:
                counts[name] = contexts.count(build_contexts(members, vocabulary, block_size))
        return cls(contexts, counts)

    @property
    def n_bytes(self) -> int:
        """Memory of the tensors, in bytes."""
        return self.contexts.n_bytes + sum(counts.nbytes for counts in self.parts.values())

    def narrowed(self, block_size: int) -> Scored:
        """Return the same words at a smaller block size, as `of` would."""
        contexts, rows_P = self.contexts.narrowed(block_size)
        n_pairs = len(contexts.pair_target)
        counts = {
            name: torch.zeros(n_pairs, dtype=torch.float64).index_add_(0, rows_P, counts_P)
            for name, counts_P in self.parts.items()
        }
        return Scored(contexts, counts)


def mean_loss(parameters: Parameters, contexts: DistinctContexts) -> float:
    """Return the mean cross-entropy over all examples, in nats per character; may not be finite."""
    return float(_losses(parameters, contexts) @ contexts.pair_count.double()) / contexts.n_examples


def mean_losses(parameters: Parameters, scored: Scored) -> tuple[float, dict[str, float]]:
    """Return the mean cross-entropy over all examples and over each part, in nats per character."""
    losses_P, contexts = _losses(parameters, scored.contexts), scored.contexts
    whole = float(losses_P @ contexts.pair_count.double()) / contexts.n_examples
    parts = {name: float(losses_P @ n) / float(n.sum()) for name, n in scored.parts.items()}
    return whole, parts


@torch.inference_mode()
def _losses(parameters: Parameters, contexts: DistinctContexts) -> Tensor:
    """Return the cross-entropy of each distinct pair, in nats, float64, shape (P,)."""
    vocab_size, n_contexts = len(parameters.b2), len(contexts.inputs)
    score = _scorer(parameters, n_contexts)
    log_p_P = parameters.b2.new_empty(len(contexts.pair_target))
    positions_P = contexts.pair_context * vocab_size + contexts.pair_target
    at_once = max(1, min(CONTEXTS_AT_ONCE, _MAX_LOGITS // vocab_size))
    starts = range(0, n_contexts, at_once)
    # Pairs are sorted by context, so each slice of contexts has a slice of the pairs.
    bounds = torch.searchsorted(contexts.pair_context, torch.tensor([*starts, n_contexts])).tolist()
    for start, pairs in zip(starts, map(slice, bounds, bounds[1:]), strict=False):
        log_p_BV = torch.log_softmax(score(contexts.inputs[start : start + at_once]), 1)
        within = positions_P[pairs] - start * vocab_size
        torch.index_select(log_p_BV.view(-1), 0, within, out=log_p_P[pairs])
    return log_p_P.double().neg_()


def _scorer(parameters: Parameters, n_contexts: int) -> Callable[[Tensor], Tensor]:
    """Return a function from contexts, (B, T), to the logits of `forward`, up to rounding.

    The first layer is a table of what each character at each position adds to the hidden layer, if
    that saves more than it costs. With tanh(x) = 2 sigmoid(2 x) - 1, which is within 2e-7 of
    torch.tanh at a third of its time, both factors and the term go into the weights.
    """
    vocab_size, dim = parameters.C.shape
    n_inputs, hidden_width = parameters.W1.shape
    block_size = n_inputs // dim
    if 2 * vocab_size > n_contexts or block_size * vocab_size * hidden_width > _MAX_TABLE:
        return partial(forward, parameters)
    W1_TDH = parameters.W1.view(block_size, dim, hidden_width)
    table_QH = torch.matmul(parameters.C, W1_TDH).view(-1, hidden_width)
    table_QH[:vocab_size] += parameters.b1
    table_QH *= 2
    W2, b2 = 2 * parameters.W2, parameters.b2 - parameters.W2.sum(0)
    firsts_T = torch.arange(block_size) * vocab_size

    def score(inputs_BT: Tensor) -> Tensor:
        rows_BT = inputs_BT.long() + firsts_T
        h_BH = functional.embedding_bag(rows_BT, table_QH, mode="sum").sigmoid_()
        return torch.addmm(b2, h_BH, W2)

    return score
