"""A model's losses of a list of words, word by word, and the interval around their mean.

A word is the unit, because the characters of one word depend on each other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

from mmsearch.data.contexts import build_contexts
from mmsearch.model.evaluation import CONTEXTS_AT_ONCE
from mmsearch.model.losses import WordLosses, by_word
from mmsearch.model.mlp import forward

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mmsearch.data.corpus import Vocabulary
    from mmsearch.model.mlp import Parameters

_DRAWS_AT_ONCE = 1 << 17  # words drawn at a time: few enough to stay in the cache


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
    return by_word(torch.cat(losses).numpy(), contexts.targets.numpy())


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
        Lower and upper end, in nats per character; both the mean where all words are alike.
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
