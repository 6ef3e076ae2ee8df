"""A character n-gram with Witten-Bell interpolation: the baseline that is hard to beat.

With h the k characters before w, h' the nearest k - 1 of them, c counts in train, T(h) how many
distinct characters follow h in train, and s the strength (Witten & Bell 1991, method C, where s
is 1; interpolated as in Chen & Goodman 1999, sec. 2.4):

    p_k(w | h) = (c(h, w) + s T(h) p_{k-1}(w | h')) / (c(h) + s T(h)),    p_{-1}(w) = 1 / V

For a context that is not in train, p_k is p_{k-1}. Contexts start anew in every word and are padded
with the boundary, id 0, as for the network. Needs no torch.

Shape suffixes: A characters of train and of the scored words with their ends, E those of the
scored words alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mmsearch.data.ids import encode_words
from mmsearch.errors import InputError
from mmsearch.model.losses import by_word

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from mmsearch.data.corpus import Vocabulary
    from mmsearch.model.losses import WordLosses

ORDERS: Sequence[int] = range(1, 8)
"""Context lengths to choose from."""
STRENGTHS: Sequence[float] = (0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 12.0)
"""Strengths to choose from."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class NGram:
    """An n-gram model and the losses of the scored words."""

    order: int
    """Context length in characters, k of the formula."""
    strength: float
    """Weight of the shorter context, s of the formula."""
    losses: WordLosses
    """Loss of the scored words, word by word."""


@dataclass(frozen=True, slots=True, eq=False)
class _Counts:
    """Counts in train for each scored character and its context of k characters."""

    n_pair: NDArray[np.int64]
    """c(h, w), shape (E,)."""
    n_context: NDArray[np.int64]
    """c(h), shape (E,)."""
    n_distinct: NDArray[np.int64]
    """T(h), shape (E,)."""

    def mix(self, shorter_E: NDArray[np.float64], strength: float) -> NDArray[np.float64]:
        """Return p_k, given p_{k-1}."""
        weight_E = strength * self.n_distinct
        total_E = self.n_context + weight_E
        # Without counts of the context, this would be 0 / 0 in place of p_{k-1}.
        safe_E = np.where(total_E > 0, total_E, 1)
        return np.where(total_E > 0, (self.n_pair + weight_E * shorter_E) / safe_E, shorter_E)


def ngram_losses(
    train: Sequence[str],
    words: Sequence[str],
    vocabulary: Vocabulary,
    *,
    order: int,
    strength: float,
) -> WordLosses:
    """Score words by an n-gram model.

    Args:
        train: words to count n-grams in.
        words: words to score.
        vocabulary: has every character of both.
        order: context length, at least 0 characters.
        strength: weight of the shorter context, above 0.

    Raises:
        InputError: one of the lists has no words, a character is not in the vocabulary, a word
            holds the boundary, or the order or strength is out of range.
    """
    return choose_ngram(train, words, vocabulary, orders=(order,), strengths=(strength,)).losses


def choose_ngram(
    train: Sequence[str],
    dev: Sequence[str],
    vocabulary: Vocabulary,
    *,
    orders: Sequence[int] = ORDERS,
    strengths: Sequence[float] = STRENGTHS,
) -> NGram:
    """Count n-grams in train, and choose the order and strength with the lowest loss on dev.

    Args:
        train: words to count n-grams in.
        dev: words to choose by.
        vocabulary: has every character of both.
        orders: context lengths, at least 0 characters each.
        strengths: weights of the shorter context, above 0 each.

    Raises:
        InputError: one of the lists has no words, a character is not in the vocabulary, a word
            holds the boundary, or an order or strength is out of range.
    """
    if not train:
        raise InputError("an n-gram needs at least 1 word to count in, got 0; give some")
    if min(orders) < 0:
        raise InputError(f"an n-gram's order must be at least 0 characters, got {min(orders)}")
    if not all(0 < strength < math.inf for strength in strengths):
        raise InputError(f"an n-gram's strength must be above 0, got {min(strengths)}; 1 is usual")
    targets_E = encode_words(dev, vocabulary)
    p_of = {s: np.full(len(targets_E), 1 / vocabulary.size) for s in strengths}
    found: NGram | None = None
    for order, counts in enumerate(_count(train, dev, vocabulary, max(orders))):
        for strength in strengths:
            p_of[strength] = counts.mix(p_of[strength], strength)
            if order not in orders:
                continue
            losses = by_word(-np.log(p_of[strength]), targets_E)
            if found is None or losses.mean < found.losses.mean:
                found = NGram(order=order, strength=strength, losses=losses)
    assert found is not None  # noqa: S101 (there is an order, and a loss is finite)
    return found


def _count(
    train: Sequence[str], words: Sequence[str], vocabulary: Vocabulary, max_order: int
) -> Iterator[_Counts]:
    """Yield the counts for contexts of 0 to `max_order` characters."""
    seen = encode_words(train, vocabulary)
    targets_A = np.concatenate((seen, encode_words(words, vocabulary)))
    n_seen = len(seen)
    starts = np.concatenate(([0], np.flatnonzero(targets_A == 0)[:-1] + 1))
    position_A = np.arange(len(targets_A))
    n_before_A = position_A - np.repeat(starts, np.diff(starts, append=len(targets_A)))
    # Contexts are numbered with the nearest character first, so that one more character refines
    # the numbers. They are ranks below A, so that a pair of them fits into 64 bits.
    context_A = np.zeros(len(targets_A), np.int64)
    for order in range(max_order + 1):
        if order:
            earlier_A = targets_A[np.maximum(position_A - order, 0)]
            earlier_A = np.where(n_before_A >= order, earlier_A, 0)
            context_A = _ranks(context_A * vocabulary.size + earlier_A)
        pair_A = _ranks(context_A * vocabulary.size + targets_A)
        n_pair = np.bincount(pair_A[:n_seen], minlength=int(pair_A.max()) + 1)
        n_context = np.bincount(context_A[:n_seen], minlength=int(context_A.max()) + 1)
        context_of = np.empty(len(n_pair), np.int64)
        context_of[pair_A] = context_A
        n_distinct = np.bincount(context_of[n_pair > 0], minlength=len(n_context))
        scored_E, followed_E = pair_A[n_seen:], context_A[n_seen:]
        yield _Counts(n_pair[scored_E], n_context[followed_E], n_distinct[followed_E])


def _ranks(numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the rank of each number; equal numbers have equal ranks."""
    return np.unique(numbers, return_inverse=True)[1]
