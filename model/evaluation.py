"""The mean loss of a model over a split, from its distinct (context, next) pairs.

A split of names repeats itself: at block size 3 the reference dev split has 22,655 examples but
2,965 distinct contexts. Each of them goes through the network once, and each distinct pair counts
as often as it occurs, which gives the same mean.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from mmsearch.model.mlp import forward

if TYPE_CHECKING:
    from mmsearch.data.contexts import DistinctContexts
    from mmsearch.model.mlp import Parameters

CONTEXTS_AT_ONCE = 1024
"""Rows a forward pass; keeps the hidden layer within a core's cache."""


@torch.inference_mode()
def mean_loss(parameters: Parameters, distinct: DistinctContexts) -> float:
    """Mean cross-entropy over all examples, in nats a character.

    Returns:
        The mean; infinite or NaN where the model is.
    """
    target_logits, normalisers = [], []
    # Pairs come sorted by context, so each slice of contexts owns a slice of the pairs.
    bounds = torch.searchsorted(
        distinct.pair_context,
        torch.arange(0, len(distinct.inputs) + CONTEXTS_AT_ONCE, CONTEXTS_AT_ONCE),
    ).tolist()
    for number, inputs_BT in enumerate(torch.split(distinct.inputs, CONTEXTS_AT_ONCE)):
        logits_BV = forward(parameters, inputs_BT)
        pairs = slice(bounds[number], bounds[number + 1])
        rows = distinct.pair_context[pairs] - number * CONTEXTS_AT_ONCE
        target_logits.append(logits_BV[rows, distinct.pair_target[pairs]])
        normalisers.append(torch.logsumexp(logits_BV, 1)[rows])
    losses = torch.cat(normalisers).double() - torch.cat(target_logits).double()
    return float(losses @ distinct.pair_count.double()) / distinct.n_examples
