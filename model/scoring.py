"""The losses of a list of words, word by word, and the interval around their mean.

A model stands beside two baselines that anyone can compute: every character as likely as any
other, and counts of character pairs. A word is the unit, because the characters of one word
depend on each other.

Shape suffixes: N words, E characters of all words with their ends, V vocab_size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

from mmsearch.data.contexts import build_contexts
from mmsearch.errors import InputError
from mmsearch.model.evaluation import CONTEXTS_AT_ONCE
from mmsearch.model.mlp import forward

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from mmsearch.data.corpus import Vocabulary
    from mmsearch.model.mlp import Parameters

_DRAWS_AT_ONCE = 1 << 17  # words drawn at a time: few enough to stay in the cache


@dataclass(frozen=True, slots=True, eq=False)
class WordLosses:
    """What each word of a list costs."""

    nats: NDArray[np.float64]
    """Negative log-likelihood of each word, its end included, shape (N,)."""
    n_targets: NDArray[np.int64]
    """Characters of each word, its end included, shape (N,)."""

    def __post_init__(self) -> None:
        """Refuse what has no mean.

        Raises:
            InputError: there are no words.
        """
        if not len(self.nats):
            raise InputError("a score needs at least 1 word, got 0; give a list that has words")

    @property
    def mean(self) -> float:
        """Nats a character, over all characters of all words."""
        return float(self.nats.sum() / self.n_targets.sum())


@torch.inference_mode()
def word_losses(parameters: Parameters, words: Sequence[str], vocabulary: Vocabulary) -> WordLosses:
    """Score words by a model, at the model's own block size.

    Args:
        parameters: any float dtype; the logits' softmax is taken in float64.
        words: words without the boundary.
        vocabulary: the model's.

    Raises:
        InputError: there are no words, a character is not in the vocabulary, or a word holds
            the boundary.
    """
    block_size = parameters.W1.shape[0] // parameters.C.shape[1]
    contexts = build_contexts(words, vocabulary, block_size)
    # Every context, repeats too: finding the distinct ones takes longer than scoring them all.
    losses = [
        functional.cross_entropy(forward(parameters, inputs).double(), targets, reduction="none")
        for inputs, targets in zip(
            torch.split(contexts.inputs, CONTEXTS_AT_ONCE),
            torch.split(contexts.targets, CONTEXTS_AT_ONCE),
            strict=True,
        )
    ]
    return _by_word(torch.cat(losses).numpy(), contexts.targets.numpy())


def uniform_losses(words: Sequence[str], vocabulary: Vocabulary) -> WordLosses:
    """Score words by no knowledge at all: ln V nats a character.

    Args:
        words: words without the boundary.
        vocabulary: knows every character of them.

    Raises:
        InputError: there are no words, a character is not in the vocabulary, or a word holds
            the boundary.
    """
    targets_E = build_contexts(words, vocabulary, 1).targets.numpy()
    return _by_word(np.full(len(targets_E), math.log(vocabulary.size)), targets_E)


def bigram_losses(
    train: Sequence[str],
    words: Sequence[str],
    vocabulary: Vocabulary,
    *,
    pseudo_count: float = 1.0,
) -> WordLosses:
    """Score words by how often one character follows another, as in the makemore lectures.

    The probability of j after i is (n_ij + a) / (n_i + a V), with a the pseudo-count (Laplace's
    rule of succession at 1); the boundary stands at both ends of a word.

    Args:
        train: the words to count in.
        words: the words to score.
        vocabulary: knows every character of both.
        pseudo_count: what each pair is counted before it is seen, above 0.

    Raises:
        InputError: one of the lists has no words, a character is not in the vocabulary, a word
            holds the boundary, or the pseudo-count is not above 0.
    """
    if not train:
        raise InputError("a bigram model needs at least 1 word to count in, got 0; give some")
    if not 0 < pseudo_count < math.inf:
        raise InputError(f"pseudo_count must be above 0, got {pseudo_count}; the lectures take 1")
    n_pairs = vocabulary.size**2
    seen_E, _ = _pairs(train, vocabulary)
    counts_VV = np.bincount(seen_E, minlength=n_pairs).reshape(vocabulary.size, vocabulary.size)
    scored_E, targets_E = _pairs(words, vocabulary)
    n_pair_E = counts_VV.ravel()[scored_E] + pseudo_count
    n_first_E = counts_VV.sum(1)[scored_E // vocabulary.size] + pseudo_count * vocabulary.size
    return _by_word(np.log(n_first_E) - np.log(n_pair_E), targets_E)


def bootstrap_interval(
    losses: WordLosses, *, level: float = 0.95, n_resamples: int = 9_999, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean loss over words like these.

    Words are drawn, not characters (Efron & Tibshirani, 1993, ch. 13). The model stays as it is:
    the interval says nothing of what another training seed would give.

    Args:
        losses: of words that the model was not chosen by.
        level: share of such intervals that hold the mean over all words, in (0, 1).
        n_resamples: how often the list is drawn anew.
        seed: of the draws.

    Returns:
        Lower and upper end, in nats a character; both the mean where all words are alike.
    """
    # Plain numpy: scipy.stats.bootstrap draws the same numbers in twice the time, refuses a
    # single word, and names its seed differently before 1.15.
    generator = np.random.default_rng(seed)
    n_words = len(losses.nats)
    at_once = max(1, _DRAWS_AT_ONCE // n_words)
    means = np.empty(n_resamples)
    for begin in range(0, n_resamples, at_once):
        part = means[begin : begin + at_once]
        drawn = generator.integers(n_words, size=(len(part), n_words))
        part[:] = losses.nats[drawn].sum(1) / losses.n_targets[drawn].sum(1)
    tail = (1 - level) / 2
    # An order statistic, because interpolation makes NaN of a broken model's infinite loss.
    lower, upper = np.quantile(means, (tail, 1 - tail), method="inverted_cdf")
    return float(lower), float(upper)


def _pairs(
    words: Sequence[str], vocabulary: Vocabulary
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Number each (character, next) pair i * V + j; return it and j, both of shape (E,)."""
    contexts = build_contexts(words, vocabulary, 1)
    targets_E = contexts.targets.numpy()
    return contexts.inputs[:, 0].long().numpy() * vocabulary.size + targets_E, targets_E


def _by_word(nats_E: NDArray[np.float64], targets_E: NDArray[np.int64]) -> WordLosses:
    """Add up what stands between one word's end and the next."""
    ends_N = np.flatnonzero(targets_E == 0)
    n_targets_N = np.diff(ends_N, prepend=-1)
    return WordLosses(np.add.reduceat(nats_E, ends_N + 1 - n_targets_N), n_targets_N)
