"""Losses of single words, their bootstrap interval, and the uniform and bigram baselines."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import chain, pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from mmsearch.data.contexts import build_contexts, distinct
from mmsearch.data.corpus import Corpus, Vocabulary
from mmsearch.data.split import Split
from mmsearch.errors import InputError
from mmsearch.model.baselines import bigram_losses, uniform_losses
from mmsearch.model.evaluation import mean_loss
from mmsearch.model.losses import WordLosses, by_position
from mmsearch.model.mlp import Parameters, forward
from mmsearch.model.scoring import bootstrap_interval, character_losses, word_losses
from tests.support.specs import make_parameters

ABC = Vocabulary.of("abcde")
SOME_WORDS = st.lists(st.text("abcde", max_size=6), min_size=1, max_size=12)


def losses_of(n_words: int, generator: np.random.Generator) -> WordLosses:
    """Draw words of 3 to 9 characters; a mean of 2 nats per character, more in longer words."""
    n_targets = generator.integers(4, 11, n_words)
    per_character = 2 + 0.1 * (n_targets - 7) + generator.normal(0, 0.4, n_words)
    return WordLosses(n_targets * per_character, n_targets)


def loss_of(word: str, parameters: Parameters, block_size: int) -> float:
    """Score one word, a character at a time, the context moved by hand."""
    context, total = [0] * block_size, 0.0
    for target in [*ABC.encode(word), 0]:
        logits = forward(parameters, torch.tensor([context])).double()
        total += float(functional.cross_entropy(logits, torch.tensor([target])))
        context = [*context[1:], target]
    return total


def pair_losses(
    train: Sequence[str], words: Sequence[str], vocab_size: int, pseudo_count: float
) -> list[list[float]]:
    """Score each character of each word by pairs counted in a dict."""
    pairs = Counter(pair for word in train for pair in pairwise(f".{word}."))
    firsts = Counter(first for word in train for first in f".{word}")
    return [
        [
            -math.log((pairs[pair] + pseudo_count) / (firsts[pair[0]] + pseudo_count * vocab_size))
            for pair in pairwise(f".{word}.")
        ]
        for word in words
    ]


@given(words=SOME_WORDS, block_size=st.integers(1, 4))
def test_loss_of_a_word_is_the_sum_over_its_characters(words: list[str], block_size: int) -> None:
    parameters = make_parameters(6, 3, 7, block_size, dtype=torch.float64)

    losses = word_losses(parameters, words, ABC)

    expected = [loss_of(word, parameters, block_size) for word in words]
    assert losses.nats == pytest.approx(np.array(expected), abs=1e-12)
    assert losses.n_targets.tolist() == [len(word) + 1 for word in words]


@pytest.mark.parametrize(
    ("block_size", "dtype", "close"),
    # mean_loss normalises in float32, if given
    [(8, torch.float64, 1e-12), (3, torch.float32, 1e-7)],
)
def test_mean_is_the_score_that_trials_are_ranked_by(
    reference: Corpus, reference_split: Split, block_size: int, dtype: torch.dtype, close: float
) -> None:
    parameters = make_parameters(27, 10, 32, block_size, dtype=dtype)
    examples = build_contexts(reference_split.dev, reference.vocabulary, block_size)

    losses = word_losses(parameters, reference_split.dev, reference.vocabulary)

    assert len(losses.nats) == len(reference_split.dev)
    assert losses.mean == pytest.approx(mean_loss(parameters, distinct(examples)), rel=close)


@given(words=SOME_WORDS, n_positions=st.integers(1, 7))
def test_positions_are_counted_from_the_start_of_each_word(
    words: list[str], n_positions: int
) -> None:
    """Each character is in one place: its position, the later ones, or the ends of words."""
    parameters = make_parameters(6, 3, 7, 2, dtype=torch.float64)
    nats, targets = character_losses(parameters, words, ABC)
    expected: dict[int, list[float]] = {place: [] for place in range(n_positions + 2)}
    in_order = iter(nats.tolist())
    for word in words:
        for place in range(len(word)):
            expected[min(place, n_positions)].append(next(in_order))
        expected[n_positions + 1].append(next(in_order))

    sums, counts = by_position(nats, targets, n_positions)

    assert counts.tolist() == [len(part) for part in expected.values()]
    assert sums == pytest.approx(np.array([sum(part) for part in expected.values()]), abs=1e-12)


def test_broken_model_has_neither_a_finite_mean_nor_a_finite_interval() -> None:
    parameters = make_parameters(6, 3, 7, 3)
    parameters.b2[1] = math.nan

    losses = word_losses(parameters, ["abc", "de"], ABC)

    assert math.isnan(losses.mean)
    assert np.isnan(bootstrap_interval(losses, n_resamples=99)).all()


@given(train=SOME_WORDS, words=SOME_WORDS, pseudo_count=st.floats(0.01, 10))
def test_baselines_are_ln_v_and_the_counted_pairs(
    train: list[str], words: list[str], pseudo_count: float
) -> None:
    uniform = uniform_losses(words, ABC)
    bigram = bigram_losses(train, words, ABC, pseudo_count=pseudo_count)

    expected = [math.fsum(word) for word in pair_losses(train, words, 6, pseudo_count)]
    assert bigram.nats == pytest.approx(np.array(expected), abs=1e-10)
    assert uniform.mean == pytest.approx(math.log(6), rel=1e-12)
    for losses in (uniform, bigram):
        assert losses.n_targets.tolist() == [len(word) + 1 for word in words]


def test_bigram_baseline_of_the_reference_corpus_is_the_lectures(reference: Corpus) -> None:
    """The lecture's 2.4544 is 2.4546: it adds 228,146 losses to one float32, which loses 50 nats.

    The dict of pairs gives both figures, the lecture's by adding as it does.
    """
    by_hand = list(chain.from_iterable(pair_losses(reference.words, reference.words, 27, 1)))
    running = np.cumsum(by_hand, dtype=np.float32)[-1]
    assert running / len(by_hand) == pytest.approx(2.45436, abs=2e-5)

    ours = bigram_losses(reference.words, reference.words, reference.vocabulary)

    assert ours.mean == pytest.approx(math.fsum(by_hand) / len(by_hand), rel=1e-12)
    assert ours.mean == pytest.approx(2.454577, abs=1e-6)
    assert ours.n_targets.sum() == 228_146


def test_interval_covers_the_truth_as_often_as_it_says() -> None:
    """Of 400 lists of 60 words, about 95 % have the mean of all words in their interval."""
    generator = np.random.default_rng(3)
    truth = losses_of(1_000_000, generator).mean
    n_covered = 0
    for seed in range(400):
        losses = losses_of(60, generator)
        lower, upper = bootstrap_interval(losses, n_resamples=999, seed=seed)
        n_covered += lower <= truth <= upper

    assert 0.88 <= n_covered / 400 <= 0.99


def test_interval_follows_from_its_seed_and_the_spread_of_the_words() -> None:
    losses = losses_of(300, np.random.default_rng(4))

    ours, other = (bootstrap_interval(losses, seed=seed) for seed in (5, 6))

    assert bootstrap_interval(losses, seed=5) == ours != other
    assert other == pytest.approx(ours, rel=0.01)
    for n_words in (1, 2, 50):
        alike = bigram_losses(["bad"], ["bead"] * n_words, ABC)
        lower, upper = bootstrap_interval(alike)
        assert lower == upper == pytest.approx(alike.mean, rel=1e-12)


def test_nothing_to_score_and_nothing_to_count_are_refused() -> None:
    parameters = make_parameters(6, 3, 7, 3)
    calls: list[Callable[[], object]] = [
        lambda: word_losses(parameters, [], ABC),
        lambda: uniform_losses([], ABC),
        lambda: bigram_losses(["a"], [], ABC),
        lambda: bigram_losses([], ["a"], ABC),
        lambda: WordLosses(np.zeros(0), np.zeros(0, np.int64)),
        lambda: uniform_losses(["ax"], ABC),
        lambda: bigram_losses(["a"], ["ax"], ABC),
        *(
            (lambda count=count: bigram_losses(["a"], ["b"], ABC, pseudo_count=count))
            for count in (0.0, -1.0, math.nan, math.inf)
        ),
    ]
    for call in calls:
        with pytest.raises(InputError):
            call()
