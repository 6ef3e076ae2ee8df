"""The network is the article's: its sizes, its formula, and its first losses."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch import Tensor

from mmsearch.data.contexts import Contexts, build_contexts
from mmsearch.model.kernel import Kernel
from mmsearch.model.minibatches import Minibatches
from mmsearch.model.mlp import Parameters, forward, init_parameters, loss
from tests.support.specs import ARTICLE_SEED, make_parameters, make_spec

if TYPE_CHECKING:
    from mmsearch.data.corpus import Corpus

SHAPES = [(27, 2, 100, 3), (27, 10, 200, 3), (27, 24, 512, 8), (60, 48, 32, 10), (5, 1, 16, 1)]
"""(V, D, H, T)"""


def generator(seed: int = ARTICLE_SEED) -> torch.Generator:
    """Make a seeded generator."""
    return torch.Generator().manual_seed(seed)


def article_start() -> Parameters:
    """Draw the article's first parameters."""
    spec = make_spec(embedding_dim=2, hidden_width=100, block_size=3, init="article")
    return init_parameters(spec, 27, generator())


@pytest.fixture(scope="module")
def first_five(reference: Corpus) -> Contexts:
    """Make the 32 examples of the first five names, which the article begins with."""
    return build_contexts(reference.words[:5], reference.vocabulary, 3)


def random_examples(vocab_size: int, block_size: int, n: int = 500) -> tuple[Tensor, Tensor]:
    """Draw ids for contexts and for what follows them."""
    inputs = torch.randint(vocab_size, (n, block_size), generator=generator(1))
    return inputs, torch.randint(vocab_size, (n,), generator=generator(2))


def test_article_start_is_the_articles_draws_in_its_order() -> None:
    g = generator()
    C = torch.randn((27, 2), generator=g)
    W1 = torch.randn((6, 100), generator=g)
    b1 = torch.randn(100, generator=g)
    W2 = torch.randn((100, 27), generator=g)
    b2 = torch.randn(27, generator=g)

    drawn = article_start().named()

    assert list(drawn) == ["C", "W1", "b1", "W2", "b2"]
    for ours, theirs in zip(drawn.values(), (C, W1, b1, W2, b2), strict=True):
        assert torch.equal(ours, theirs)


def test_first_loss_is_the_lectures(first_five: Contexts) -> None:
    assert len(first_five) == 32

    first = loss(article_start(), first_five.inputs, first_five.targets)

    assert float(first) == pytest.approx(17.7697, abs=5e-4)


def test_full_batch_training_ends_where_the_articles_does(first_five: Contexts) -> None:
    kernel = Kernel(article_start(), batch_size=32)
    n_steps = 1000
    inputs = first_five.inputs.expand(n_steps, -1, -1)
    targets = first_five.targets.expand(n_steps, -1)

    drawn = Minibatches.of_examples(inputs, targets, 27)
    losses = kernel.steps(drawn, [0.1] * n_steps)

    assert float(losses[0]) == pytest.approx(17.7697, abs=5e-4)
    last = float(loss(kernel.parameters, first_five.inputs, first_five.targets))
    assert last == pytest.approx(0.256, abs=2e-3)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("seed", [0, 1, ARTICLE_SEED])
def test_scaled_start_knows_nothing_and_says_so(
    shape: tuple[int, int, int, int], seed: int
) -> None:
    vocab_size, embedding_dim, hidden_width, block_size = shape
    spec = make_spec(embedding_dim=embedding_dim, hidden_width=hidden_width, block_size=block_size)
    parameters = init_parameters(spec, vocab_size, generator(seed))

    first = loss(parameters, *random_examples(vocab_size, block_size))

    assert float(first) == pytest.approx(math.log(vocab_size), abs=0.02)


def test_scaled_start_keeps_tanh_off_its_flat_parts() -> None:
    inputs, _ = random_examples(27, 8)
    flat = {}
    for init in ("scaled", "article"):
        spec = make_spec(embedding_dim=10, hidden_width=200, block_size=8, init=init)
        parameters = init_parameters(spec, 27, generator())
        h = torch.tanh(parameters.C[inputs].flatten(1) @ parameters.W1 + parameters.b1)
        flat[init] = float((h.abs() > 0.99).float().mean())

    assert flat["scaled"] < 0.15
    assert flat["article"] > 0.6


@pytest.mark.parametrize("init", ["scaled", "article"])
def test_start_follows_from_the_generator_alone(init: str) -> None:
    spec = make_spec(init=init)
    first, again, other = (init_parameters(spec, 27, generator(seed)) for seed in (5, 5, 6))

    for name, tensor in first.named().items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, again.named()[name])
    assert not torch.equal(first.W1, other.W1)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("ids", [torch.int32, torch.int64])
def test_forward_and_loss_are_the_formula(
    shape: tuple[int, int, int, int], ids: torch.dtype
) -> None:
    vocab_size, _, _, block_size = shape
    parameters = make_parameters(*shape, dtype=torch.float64)
    C, W1, b1, W2, b2 = (tensor.numpy() for tensor in parameters.named().values())
    inputs, targets = random_examples(vocab_size, block_size, n=20)
    logits, losses = [], []
    for context, target in zip(inputs.tolist(), targets.tolist(), strict=True):
        embedded = np.concatenate([C[i] for i in context])
        row = np.tanh(embedded @ W1 + b1) @ W2 + b2
        logits.append(row)
        losses.append(-math.log(np.exp(row[target]) / np.exp(row).sum()))

    assert forward(parameters, inputs.to(ids)).numpy() == pytest.approx(np.array(logits), abs=1e-12)
    ours = float(loss(parameters, inputs.to(ids), targets))
    assert ours == pytest.approx(np.mean(losses), abs=1e-12)
