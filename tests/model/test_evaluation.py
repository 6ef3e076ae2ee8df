"""Evaluation: the weighted mean over distinct pairs is the mean over all examples."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mmsearch.data.contexts import Contexts, build_contexts, distinct
from mmsearch.data.corpus import Corpus, Vocabulary
from mmsearch.data.split import Split
from mmsearch.model import evaluation
from mmsearch.model.evaluation import CONTEXTS_AT_ONCE, mean_loss
from mmsearch.model.mlp import Parameters, loss
from tests.support.specs import make_parameters

VOCAB_SIZE = 30


def examples_with(n_distinct: int, n_examples: int) -> Contexts:
    """Draw examples with `n_distinct` different contexts, each at least once."""
    g = torch.Generator().manual_seed(n_distinct)
    numbers = torch.randperm(VOCAB_SIZE**3, generator=g)[:n_distinct]
    rows = torch.stack([numbers // VOCAB_SIZE**2, numbers // VOCAB_SIZE, numbers], 1) % VOCAB_SIZE
    more = torch.randint(n_distinct, (n_examples - n_distinct,), generator=g)
    chosen = torch.cat([torch.arange(n_distinct), more])
    # Few targets, so that pairs repeat too.
    targets = torch.randint(4, (n_examples,), generator=g)
    return Contexts(inputs=rows[chosen].int(), targets=targets)


def plain_loss(parameters: Parameters, examples: Contexts) -> float:
    """Return the mean loss over every example, in float64."""
    return float(loss(parameters.map(Tensor.double), examples.inputs, examples.targets))


@pytest.mark.parametrize("block_size", [3, 8])
def test_score_is_the_mean_over_all_reference_examples(
    reference: Corpus, reference_split: Split, block_size: int
) -> None:
    examples = build_contexts(reference_split.dev, reference.vocabulary, block_size)
    assert len(examples) == 22_655
    parameters = make_parameters(27, 10, 32, block_size)

    ours = mean_loss(parameters, distinct(examples))

    assert ours == pytest.approx(plain_loss(parameters, examples), abs=1e-6)


@pytest.mark.parametrize("n_distinct", [n * CONTEXTS_AT_ONCE + k for n in (1, 2) for k in (-1, 1)])
def test_chunks_of_the_real_size_lose_no_context(n_distinct: int) -> None:
    examples = examples_with(n_distinct, 2 * n_distinct)
    pairs = distinct(examples)
    assert len(pairs.inputs) == n_distinct
    parameters = make_parameters(VOCAB_SIZE, 5, 16, 3, dtype=torch.float64)

    assert mean_loss(parameters, pairs) == pytest.approx(
        plain_loss(parameters, examples), abs=1e-12
    )


@given(
    words=st.lists(st.text("abcde", max_size=6), min_size=1, max_size=30),
    block_size=st.integers(1, 4),
    at_once=st.integers(1, 9),
)
def test_score_is_the_mean_over_any_words_in_any_chunks(
    words: list[str], block_size: int, at_once: int
) -> None:
    examples = build_contexts(words, Vocabulary.of("abcde"), block_size)
    parameters = make_parameters(6, 3, 7, block_size, dtype=torch.float64)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation, "CONTEXTS_AT_ONCE", at_once)
        ours = mean_loss(parameters, distinct(examples))

    assert ours == pytest.approx(plain_loss(parameters, examples), abs=1e-12)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_broken_model_has_no_finite_score(bad: float) -> None:
    """The caller ends a trial whose score is not finite."""
    parameters = make_parameters(VOCAB_SIZE, 5, 16, 3)
    parameters.b2[1] = bad

    assert not math.isfinite(mean_loss(parameters, distinct(examples_with(50, 400))))
