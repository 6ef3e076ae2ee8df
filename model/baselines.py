"""Two simple baselines: the uniform distribution and bigram counts; needs no torch.

The third baseline, which is harder to beat, is in `ngram`.

Shape suffixes: E characters of all words with their ends, V vocab_size.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from mmsearch.data.ids import encode_words
from mmsearch.errors import InputError
from mmsearch.model.losses import by_word

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from mmsearch.data.corpus import Vocabulary
    from mmsearch.model.losses import WordLosses


def uniform_losses(words: Sequence[str], vocabulary: Vocabulary) -> WordLosses:
    """Score words by the uniform distribution: ln V nats per character.

    Args:
        words: words without the boundary.
        vocabulary: has every character of them.

    Raises:
        InputError: there are no words, a character is not in the vocabulary, or a word holds
            the boundary.
    """
    targets_E = encode_words(words, vocabulary)
    return by_word(np.full(len(targets_E), math.log(vocabulary.size)), targets_E)


def bigram_losses(
    train: Sequence[str],
    words: Sequence[str],
    vocabulary: Vocabulary,
    *,
    pseudo_count: float = 1.0,
) -> WordLosses:
    """Score words by bigram counts, as in the makemore lectures.

    The probability of j after i is (n_ij + a) / (n_i + a V), with a the pseudo-count (Laplace's
    rule of succession at 1); the boundary stands at both ends of a word.

    Args:
        train: words to count bigrams in.
        words: words to score.
        vocabulary: has every character of both.
        pseudo_count: added to the count of each pair, above 0.

    Raises:
        InputError: one of the lists has no words, a character is not in the vocabulary, a word
            holds the boundary, or the pseudo-count is not above 0.
    """
    if not train:
        raise InputError("a bigram model needs at least 1 word to count in, got 0")
    if not 0 < pseudo_count < math.inf:
        raise InputError(f"pseudo_count must be above 0, got {pseudo_count}; the lectures take 1")
    seen_E, _ = _pairs(train, vocabulary)
    scored_E, targets_E = _pairs(words, vocabulary)
    # A table of V x V would take 200 MB with 5,000 characters.
    pairs, counts = np.unique(seen_E, return_counts=True)
    found = np.minimum(np.searchsorted(pairs, scored_E), len(pairs) - 1)
    n_pair_E = np.where(pairs[found] == scored_E, counts[found], 0) + pseudo_count
    n_first_V = np.bincount(seen_E // vocabulary.size, minlength=vocabulary.size)
    n_first_E = n_first_V[scored_E // vocabulary.size] + pseudo_count * vocabulary.size
    return by_word(np.log(n_first_E) - np.log(n_pair_E), targets_E)


def _pairs(
    words: Sequence[str], vocabulary: Vocabulary
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Number each (character, next) pair i * V + j; return it and j, both of shape (E,)."""
    targets_E = encode_words(words, vocabulary)
    # The boundary that ends a word is also the one before the next word.
    before_E = np.zeros(len(targets_E), np.int64)
    before_E[1:] = targets_E[:-1]
    return before_E * vocabulary.size + targets_E, targets_E
