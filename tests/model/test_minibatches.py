"""Minibatches of distributions, and the noise in their contexts."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmsearch.data.contexts import Contexts, build_contexts, distinct
from mmsearch.data.corpus import Vocabulary
from mmsearch.model.minibatches import Distributions, Minibatches, add_noise

WORDS = ["anna", "anne", "ann", "otto", "lea", "leo", "leon"]
VOCABULARY = Vocabulary.of(WORDS)
V = VOCABULARY.size


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def examples(block_size: int) -> Contexts:
    return build_contexts(WORDS, VOCABULARY, block_size)


def drawn(block_size: int, n_steps: int, batch_size: int, seed: int = 0) -> Minibatches:
    source = Distributions(distinct(examples(block_size)), V)
    return source.draw(n_steps, batch_size, generator(seed))


def targets_of(minibatches: Minibatches) -> torch.Tensor:
    """Lay the weights out as distributions, shape (S, B, V)."""
    n_steps, batch_size, _ = minibatches.inputs.shape
    dense = torch.zeros(n_steps, batch_size * V)
    steps = torch.repeat_interleave(minibatches.sizes)
    dense.index_put_((steps, minibatches.positions), minibatches.weights, accumulate=True)
    return dense.view(n_steps, batch_size, V)


@given(st.integers(1, 4), st.integers(1, 9), st.integers(1, 12), st.integers(0, 99))
def test_target_is_the_share_of_each_character_that_follows_the_context(
    block_size: int, n_steps: int, batch_size: int, seed: int
) -> None:
    minibatches = drawn(block_size, n_steps, batch_size, seed)

    known, targets = examples(block_size), targets_of(minibatches).view(-1, V)
    for context, target in zip(minibatches.inputs.view(-1, block_size), targets, strict=True):
        is_it = (known.inputs == context).all(1)
        seen = torch.bincount(known.targets[is_it], minlength=V)
        assert torch.allclose(target, seen / seen.sum())


@pytest.mark.parametrize("block_size", [1, 2, 3])
def test_draws_visit_each_context_as_often_as_it_occurs(block_size: int) -> None:
    """The draws of an epoch are stratified, and prefer nothing over many epochs."""
    known = examples(block_size)
    epoch = drawn(block_size, 1, len(known))

    rows = epoch.inputs.view(-1, block_size)
    visited, n_drawn = np.unique(rows.numpy(), axis=0, return_counts=True)
    occurring, n_seen = np.unique(known.inputs.numpy(), axis=0, return_counts=True)

    assert np.array_equal(visited, occurring)
    assert np.abs(n_drawn - n_seen).max() <= 1
    unigram = torch.bincount(known.targets, minlength=V) / len(known)
    mean = targets_of(drawn(block_size, 500, len(known))).mean((0, 1))
    assert torch.allclose(mean, unigram, atol=2e-3)


def test_noise_falls_from_the_oldest_character_to_none_at_the_newest() -> None:
    inputs = torch.zeros(20_000, 5, dtype=torch.int32)
    ends = torch.tensor([0.0, 0.25, 1.0])  # never 0, so that each replacement shows

    noisy = add_noise(inputs, 0.4, ends, generator())

    share = (noisy != 0).float().mean(0)
    assert torch.allclose(share, torch.tensor([0.4, 0.3, 0.2, 0.1, 0.0]), atol=0.015)
    assert float((noisy[noisy != 0] == 1).float().mean()) == pytest.approx(0.25, abs=0.02)
    assert (noisy.dtype, noisy.shape) == (inputs.dtype, inputs.shape)
    assert not inputs.any()
    single = torch.ones(100, 1, dtype=torch.int32)  # the oldest character is the newest
    assert torch.equal(add_noise(single, 1.0, torch.tensor([1.0]), generator()), single)
