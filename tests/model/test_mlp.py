"""The network of the article: its draws, its formula, and its first and last losses."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from mmsearch.data.contexts import build_contexts
from mmsearch.data.corpus import Corpus
from mmsearch.model.kernel import Kernel
from mmsearch.model.minibatches import Minibatches
from mmsearch.model.mlp import Parameters, forward, init_parameters, loss
from tests.support.specs import ARTICLE_SEED, make_parameters, make_spec

SHAPES = [(27, 2, 100, 3), (27, 10, 200, 3), (27, 24, 512, 8), (60, 48, 32, 10), (5, 1, 16, 1)]
"""(V, D, H, T)"""


def generator(seed: int = ARTICLE_SEED) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def article_start(seed: int = ARTICLE_SEED) -> Parameters:
    spec = make_spec(embedding_dim=2, hidden_width=100, block_size=3, init="article")
    return init_parameters(spec, 27, generator(seed))


def random_examples(vocab_size: int, block_size: int, n: int = 500) -> tuple[Tensor, Tensor]:
    inputs = torch.randint(vocab_size, (n, block_size), generator=generator(1))
    return inputs, torch.randint(vocab_size, (n,), generator=generator(2))


def test_article_start_is_the_articles_draws_in_its_order() -> None:
    g = generator()
    shapes = {"C": (27, 2), "W1": (6, 100), "b1": (100,), "W2": (100, 27), "b2": (27,)}

    drawn = article_start().named()

    assert list(drawn) == list(shapes)
    for name, shape in shapes.items():
        assert drawn[name].dtype == torch.float32
        assert torch.equal(drawn[name], torch.randn(shape, generator=g))


def test_full_batch_training_begins_and_ends_at_the_articles_losses(reference: Corpus) -> None:
    """On the 32 examples of five names, 1,000 steps lead from 17.77 to "around 0.25"."""
    examples = build_contexts(reference.words[:5], reference.vocabulary, 3)
    assert len(examples) == 32
    kernel = Kernel(article_start(), batch_size=32)
    inputs, targets = examples.inputs.expand(1000, -1, -1), examples.targets.expand(1000, -1)

    losses = kernel.steps(Minibatches.of_examples(inputs, targets, 27), [0.1] * 1000)

    first = float(loss(article_start(), examples.inputs, examples.targets))
    last = float(loss(kernel.parameters, examples.inputs, examples.targets))
    assert first == pytest.approx(float(losses[0])) == pytest.approx(17.7697, abs=5e-4)
    assert last == pytest.approx(0.256, abs=2e-3)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("seed", [0, 1, ARTICLE_SEED])
def test_scaled_start_scores_ln_v(shape: tuple[int, int, int, int], seed: int) -> None:
    vocab_size, embedding_dim, hidden_width, block_size = shape
    spec = make_spec(embedding_dim=embedding_dim, hidden_width=hidden_width, block_size=block_size)
    parameters, again = (init_parameters(spec, vocab_size, generator(seed)) for _ in range(2))

    first = loss(parameters, *random_examples(vocab_size, block_size))

    assert float(first) == pytest.approx(math.log(vocab_size), abs=0.02)
    for name, tensor in parameters.named().items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, again.named()[name])
    assert not torch.equal(parameters.W1, init_parameters(spec, vocab_size, generator(9)).W1)


def test_scaled_start_keeps_tanh_off_its_flat_parts() -> None:
    """A unit at +-1 passes no gradient; the article's start has most units there."""
    inputs, _ = random_examples(27, 8)
    flat = {}
    for init in ("scaled", "article"):
        spec = make_spec(embedding_dim=10, hidden_width=200, block_size=8, init=init)
        parameters = init_parameters(spec, 27, generator())
        h = torch.tanh(parameters.C[inputs].flatten(1) @ parameters.W1 + parameters.b1)
        flat[init] = float((h.abs() > 0.99).float().mean())

    assert flat["scaled"] < 0.15
    assert flat["article"] > 0.6


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("ids", [torch.int32, torch.int64])
def test_forward_and_loss_are_the_formula_in_numpy(
    shape: tuple[int, int, int, int], ids: torch.dtype
) -> None:
    vocab_size, _, _, block_size = shape
    parameters = make_parameters(*shape, dtype=torch.float64)
    C, W1, b1, W2, b2 = (tensor.numpy() for tensor in parameters.named().values())
    inputs, targets = random_examples(vocab_size, block_size, n=20)
    logits, losses = [], []
    for context, target in zip(inputs.tolist(), targets.tolist(), strict=True):
        row = np.tanh(np.concatenate([C[i] for i in context]) @ W1 + b1) @ W2 + b2
        logits.append(row)
        losses.append(-math.log(np.exp(row[target]) / np.exp(row).sum()))

    assert forward(parameters, inputs.to(ids)).numpy() == pytest.approx(np.array(logits), abs=1e-12)
    ours = float(loss(parameters, inputs.to(ids), targets))
    assert ours == pytest.approx(np.mean(losses), abs=1e-12)
