"""A model's loss of each character or word of a list, and a confidence interval of the mean.

The unit is the word, because the characters of a word depend on each other.
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

    from numpy.typing import NDArray

    from mmsearch.data.corpus import Vocabulary
    from mmsearch.model.mlp import Parameters

_DRAWS_AT_ONCE = 1 << 17
"""Words drawn at a time, which fit into the cache."""


@torch.inference_mode()
def character_losses(
    parameters: Parameters, words: Sequence[str], vocabulary: Vocabulary
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Score each character of words by a model, at the model's own block size.

    Args:
        parameters: the model, of any float dtype; the softmax is computed in float64.
        words: words without the boundary.
        vocabulary: the model's vocabulary.

    Returns:
        The negative log-likelihood of each character in nats, shape (E,), and its id, shape (E,),
        where 0 ends a word. E is the number of characters, the ends of words included.

    Raises:
        InputError: a character is not in the vocabulary, or a word holds the boundary.
    """
    block_size = parameters.W1.shape[0] // parameters.C.shape[1]
    contexts = build_contexts(words, vocabulary, block_size)
    # Repeated contexts included: finding the distinct ones would take longer.
    losses = [
        functional.cross_entropy(forward(parameters, inputs).double(), targets, reduction="none")
        for inputs, targets in zip(
            torch.split(contexts.inputs, CONTEXTS_AT_ONCE),
            torch.split(contexts.targets, CONTEXTS_AT_ONCE),
            strict=True,
        )
    ]
    return torch.cat(losses).numpy(), contexts.targets.numpy()


def word_losses(parameters: Parameters, words: Sequence[str], vocabulary: Vocabulary) -> WordLosses:
    """Score words by a model, with the arguments of `character_losses`.

    Raises:
        InputError: there are no words, a character is not in the vocabulary, or a word holds
            the boundary.
    """
    return by_word(*character_losses(parameters, words, vocabulary))


def bootstrap_interval(
    losses: WordLosses, *, level: float = 0.95, n_resamples: int = 9_999, seed: int = 0
) -> tuple[float, float]:
    """Return a percentile bootstrap interval of the mean loss (Efron & Tibshirani, 1993, ch. 13).

    Words are resampled, not characters. The model is fixed, so the interval does not include the
    variation between training seeds.

    Args:
        losses: losses of words by which the model was not chosen.
        level: confidence level, in (0, 1).
        n_resamples: number of resamples.
        seed: seed of the resampling.

    Returns:
        Lower and upper end, in nats per character.
    """
    # scipy.stats.bootstrap takes twice the time and refuses a single word.
    generator = np.random.default_rng(seed)
    n_words = len(losses.nats)
    at_once = max(1, _DRAWS_AT_ONCE // n_words)
    means = np.empty(n_resamples)
    for begin in range(0, n_resamples, at_once):
        part = means[begin : begin + at_once]
        drawn = generator.integers(n_words, size=(len(part), n_words))
        part[:] = losses.nats[drawn].sum(1) / losses.n_targets[drawn].sum(1)
    tail = (1 - level) / 2
    # An order statistic, because interpolation would turn an infinite loss into NaN.
    lower, upper = np.quantile(means, (tail, 1 - tail), method="inverted_cdf")
    return float(lower), float(upper)
