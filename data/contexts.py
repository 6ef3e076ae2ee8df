"""Contexts: each character of the words with the characters before it, as tensors.

Shape suffixes: N = examples, T = block_size, M = distinct contexts, P = distinct (context,
target) pairs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view

from mmsearch.data.ids import encode_words
from mmsearch.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from mmsearch.data.corpus import Vocabulary

_CHUNK = 1 << 16  # rows masked at a time: few enough to stay in the cache, and to be no peak


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Contexts:
    """Examples in the order of the words; a word of n characters has n + 1."""

    inputs: Tensor
    """Ids, int32, shape (N, T); oldest character first, 0 before the start of the word."""
    targets: Tensor
    """Id of the next character, int64, shape (N,); 0 after a word's last character."""

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.targets)

    @property
    def block_size(self) -> int:
        """Context length, in characters."""
        return self.inputs.shape[1]

    def narrowed(self, block_size: int) -> Contexts:
        """Return the same examples at a smaller block size, as views."""
        return Contexts(inputs=self.inputs[:, -block_size:], targets=self.targets)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class DistinctContexts:
    """Distinct examples with their counts, for a mean loss at a fraction of the cost.

    The mean over all examples is `(loss_P * pair_count).sum() / n_examples`, where loss_P is
    the loss of `inputs[pair_context]` against `pair_target`.
    """

    inputs: Tensor
    """Distinct contexts, int32, shape (M, T), in lexicographic order."""
    pair_context: Tensor
    """Row of `inputs`, int64, shape (P,), ascending."""
    pair_target: Tensor
    """Id of the next character, int64, shape (P,), ascending within one context."""
    pair_count: Tensor
    """Number of examples with this pair, int64, shape (P,), at least 1."""
    n_examples: int
    """The sum of `pair_count`."""

    @property
    def n_bytes(self) -> int:
        """Memory of the tensors, in bytes."""
        tensors = (self.inputs, self.pair_context, self.pair_target, self.pair_count)
        return sum(tensor.nbytes for tensor in tensors)

    def narrowed(self, block_size: int) -> tuple[DistinctContexts, Tensor]:
        """Return the distinct contexts at a smaller block size.

        Returns:
            The same as `distinct` of the narrowed examples, and for each pair the row of the
            narrower pair that it becomes, int64, shape (P,).
        """
        if not self.n_examples:
            return replace(self, inputs=self.inputs[:, -block_size:]), self.pair_context
        inputs_MT = self.inputs.numpy()[:, -block_size:]
        targets_P = self.pair_target.numpy()
        first_M, rank_M = _rank_rows(inputs_MT)
        base = int(targets_P.max()) + 1
        pairs_P, row_P = np.unique(
            rank_M[self.pair_context.numpy()] * base + targets_P, return_inverse=True
        )
        # Sums of whole numbers, which are exact in float64.
        counts_P = np.bincount(row_P, weights=self.pair_count.numpy())
        narrower = DistinctContexts(
            inputs=torch.from_numpy(np.ascontiguousarray(inputs_MT[first_M])),
            pair_context=torch.from_numpy(pairs_P // base),
            pair_target=torch.from_numpy(pairs_P % base),
            pair_count=torch.from_numpy(counts_P.astype(np.int64)),
            n_examples=self.n_examples,
        )
        return narrower, torch.from_numpy(row_P)

    def count(self, contexts: Contexts) -> Tensor:
        """Count how often each of these pairs occurs among some of the same examples.

        Args:
            contexts: examples of the same block size, each of which is one of these pairs.

        Returns:
            Counts, float64, shape (P,).
        """
        part = distinct(contexts)
        pairs = (self.inputs[self.pair_context], self.pair_target)
        wanted = (part.inputs[part.pair_context], part.pair_target)
        both = torch.cat([torch.column_stack(p).int() for p in (pairs, wanted)])
        _, rank = _rank_rows(both.numpy())
        counts = np.zeros(len(rank))
        counts[rank[len(self.pair_target) :]] = part.pair_count.numpy()
        return torch.from_numpy(counts[rank[: len(self.pair_target)]])


def build_contexts(words: Sequence[str], vocabulary: Vocabulary, block_size: int) -> Contexts:
    """Return an example for each character and each end of a word.

    Args:
        words: words without the boundary.
        vocabulary: has every character of them.
        block_size: context length, at least 1 character.

    Raises:
        InputError: the block size is below 1, a character is not in the vocabulary, or a word
            contains the boundary.
    """
    if block_size < 1:
        msg = f"block_size must be at least 1 character, got {block_size}; makemore uses 3"
        raise InputError(msg)
    targets_N = encode_words(words, vocabulary)
    starts = np.concatenate(([0], np.flatnonzero(targets_N == 0) + 1))
    # Number of characters of its own word before each example.
    n_before_N = np.arange(len(targets_N)) - np.repeat(starts[:-1], np.diff(starts))
    padded = np.concatenate((np.zeros(block_size, np.int32), targets_N))
    windows_NT = sliding_window_view(padded, block_size)[:-1]
    lags_T = np.arange(block_size, 0, -1)
    inputs_NT = np.empty((len(targets_N), block_size), np.int32)
    for begin in range(0, len(targets_N), _CHUNK):
        rows = slice(begin, begin + _CHUNK)
        in_word = n_before_N[rows, None] >= lags_T
        np.multiply(windows_NT[rows], in_word, out=inputs_NT[rows])
    return Contexts(
        inputs=torch.from_numpy(inputs_NT),
        targets=torch.from_numpy(targets_N.astype(np.int64)),
    )


def distinct(contexts: Contexts) -> DistinctContexts:
    """Return the distinct examples with their counts; independent of the order of examples."""
    inputs_NT = contexts.inputs.numpy()
    targets_N = contexts.targets.numpy()
    if not len(contexts):
        none = torch.zeros(0, dtype=torch.int64)
        return DistinctContexts(
            inputs=contexts.inputs,
            pair_context=none,
            pair_target=none,
            pair_count=none,
            n_examples=0,
        )
    first_M, rank_N = _rank_rows(inputs_NT)
    base = int(targets_N.max()) + 1
    pairs_P, counts_P = np.unique(rank_N * base + targets_N, return_counts=True)
    return DistinctContexts(
        inputs=torch.from_numpy(inputs_NT[first_M]),
        pair_context=torch.from_numpy(pairs_P // base),
        pair_target=torch.from_numpy(pairs_P % base),
        pair_count=torch.from_numpy(counts_P.astype(np.int64)),
        n_examples=len(contexts),
    )


def _rank_rows(ids_NT: NDArray[np.int32]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rank rows in lexicographic order.

    The columns of a row are read as digits of one int64 number. Before it overflows, the numbers
    are replaced by their ranks, which keep the order, so any vocabulary and block size works.

    Returns:
        The first row of each rank, shape (M,), and the rank of each row, shape (N,).
    """
    base = int(ids_NT.max()) + 1
    rank_N = np.zeros(len(ids_NT), np.int64)
    n_ranks = 1
    for column in ids_NT.T:
        if n_ranks * base > np.iinfo(np.int64).max:
            values, rank_N = np.unique(rank_N, return_inverse=True)
            n_ranks = len(values)
        rank_N = rank_N * base + column
        n_ranks *= base
    _, first_M, rank_N = np.unique(rank_N, return_index=True, return_inverse=True)
    return first_M, rank_N
