"""Minibatches of distributions have the gradient of all examples, and noise keeps the newest."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmsearch.data.contexts import build_contexts, distinct
from mmsearch.data.corpus import Vocabulary
from mmsearch.model.minibatches import Distributions, Minibatches, add_noise

WORDS = ["anna", "anne", "ann", "otto", "lea", "leo", "leon"]
VOCABULARY = Vocabulary.of(WORDS)
V = VOCABULARY.size


def generator(seed: int = 0) -> torch.Generator:
    """Seed a generator."""
    return torch.Generator().manual_seed(seed)


def drawn(block_size: int, n_steps: int, batch_size: int, seed: int = 0) -> Minibatches:
    """Draw minibatches of the few words of these tests."""
    contexts = distinct(build_contexts(WORDS, VOCABULARY, block_size))
    return Distributions(contexts, V).draw(n_steps, batch_size, generator(seed))


def targets_of(minibatches: Minibatches) -> torch.Tensor:
    """Lay the weights out as distributions, shape (S, B, V)."""
    n_steps, batch_size, _ = minibatches.inputs.shape
    dense = torch.zeros(n_steps, batch_size * V)
    steps = torch.repeat_interleave(minibatches.sizes)
    dense.index_put_((steps, minibatches.positions), minibatches.weights, accumulate=True)
    return dense.view(n_steps, batch_size, V)


@given(st.integers(1, 4), st.integers(1, 9), st.integers(1, 12), st.integers(0, 99))
def test_a_context_brings_all_that_follows_it(
    block_size: int, n_steps: int, batch_size: int, seed: int
) -> None:
    minibatches = drawn(block_size, n_steps, batch_size, seed)

    examples = build_contexts(WORDS, VOCABULARY, block_size)
    targets = targets_of(minibatches).view(-1, V)
    for context, target in zip(minibatches.inputs.view(-1, block_size), targets, strict=True):
        is_it = (examples.inputs == context).all(1)
        seen = torch.bincount(examples.targets[is_it], minlength=V)
        assert torch.allclose(target, seen / seen.sum())


@pytest.mark.parametrize("block_size", [1, 2, 3])
def test_draws_are_stratified(block_size: int) -> None:
    examples = build_contexts(WORDS, VOCABULARY, block_size)
    minibatches = drawn(block_size, 1, len(examples))

    rows = minibatches.inputs.view(-1, block_size)
    visited, n_drawn = np.unique(rows.numpy(), axis=0, return_counts=True)
    known, n_seen = np.unique(examples.inputs.numpy(), axis=0, return_counts=True)

    assert np.array_equal(visited, known)
    assert np.abs(n_drawn - n_seen).max() <= 1


def test_mean_target_is_the_unigram() -> None:
    examples = build_contexts(WORDS, VOCABULARY, 2)
    unigram = torch.bincount(examples.targets, minlength=V) / len(examples)

    mean = targets_of(drawn(2, 500, len(examples))).mean((0, 1))

    assert torch.allclose(mean, unigram, atol=2e-3)


def test_noise_falls_from_the_oldest_character_to_the_newest() -> None:
    inputs = torch.zeros(20_000, 5, dtype=torch.int32)
    ends = torch.tensor([0.0, 0.25, 1.0])  # never 0, so that each replacement shows

    noisy = add_noise(inputs, 0.4, ends, generator())

    share = (noisy != 0).float().mean(0)
    assert torch.allclose(share, torch.tensor([0.4, 0.3, 0.2, 0.1, 0.0]), atol=0.015)
    assert float((noisy[noisy != 0] == 1).float().mean()) == pytest.approx(0.25, abs=0.02)
    assert (noisy.dtype, noisy.shape) == (inputs.dtype, inputs.shape)
    assert not inputs.any()


def test_a_context_of_one_character_stays_as_it_is() -> None:
    inputs = torch.ones(100, 1, dtype=torch.int32)

    assert torch.equal(add_noise(inputs, 1.0, torch.tensor([1.0]), generator()), inputs)
