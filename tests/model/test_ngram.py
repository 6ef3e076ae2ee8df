"""The n-gram baseline: its formula, its choice on dev, and its known score."""

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmsearch.data.corpus import Corpus, Vocabulary
from mmsearch.data.split import Split
from mmsearch.errors import InputError
from mmsearch.model.ngram import choose_ngram, ngram_losses

ABC = Vocabulary.of("abcde")
SOME_WORDS = st.lists(st.text("abcde", max_size=6), min_size=1, max_size=12)
A_STRENGTH = st.floats(0.01, 20)


class Naive:
    """Witten-Bell in a few lines, one probability at a time, counted in a dict."""

    def __init__(self, train: Sequence[str], characters: str, strength: float) -> None:
        self.characters = characters
        self.strength = strength
        self.train = train

    def p(self, context: str, character: str) -> float:
        """Return the probability of a character after a context of any length."""
        k = len(context)
        after = Counter(
            padded[i]
            for padded in ("." * k + word + "." for word in self.train)
            for i in range(k, len(padded))
            if padded[i - k : i] == context
        )
        shorter = self.p(context[1:], character) if k else 1 / len(self.characters)
        if not after:
            return shorter
        weight = self.strength * len(after)
        return (after[character] + weight * shorter) / (after.total() + weight)

    def nats(self, words: Sequence[str], order: int) -> np.ndarray:
        """Return the loss of each word with its end."""
        padded = ["." * order + word + "." for word in words]
        return np.array(
            [
                -math.fsum(math.log(self.p(w[i - order : i], w[i])) for i in range(order, len(w)))
                for w in padded
            ]
        )


@given(train=SOME_WORDS, words=SOME_WORDS, order=st.integers(0, 4), strength=A_STRENGTH)
def test_losses_are_those_of_the_formula(
    train: list[str], words: list[str], order: int, strength: float
) -> None:
    losses = ngram_losses(train, words, ABC, order=order, strength=strength)

    naive = Naive(train, ".abcde", strength)
    assert losses.nats == pytest.approx(naive.nats(words, order), abs=1e-10)
    assert losses.n_targets.tolist() == [len(word) + 1 for word in words]
    # The formula is a distribution after any context.
    after = (naive.p(words[0][:order], character) for character in naive.characters)
    assert math.fsum(after) == pytest.approx(1, abs=1e-12)


def test_reference_corpus_gives_the_known_loss(reference: Corpus, reference_split: Split) -> None:
    found = choose_ngram(reference_split.train, reference_split.dev, reference.vocabulary)

    assert (found.order, found.strength) == (5, 6.0)
    assert found.losses.mean == pytest.approx(1.97966, abs=1e-5)


@given(train=SOME_WORDS, dev=SOME_WORDS)
def test_order_and_strength_with_the_lowest_dev_loss_are_chosen(
    train: list[str], dev: list[str]
) -> None:
    orders, strengths = (1, 2, 3), (0.5, 2.0, 8.0)

    found = choose_ngram(train, dev, ABC, orders=orders, strengths=strengths)

    every = {
        (k, s): ngram_losses(train, dev, ABC, order=k, strength=s).mean
        for k in orders
        for s in strengths
    }
    assert every[found.order, found.strength] == found.losses.mean == min(every.values())


def test_contexts_that_do_not_fit_into_64_bits_are_counted_right() -> None:
    """Seven of 5,000 characters have no number of 64 bits."""
    characters = [chr(0x4E00 + i) for i in range(5000)]
    generator = np.random.default_rng(1)
    words = ["".join(generator.choice(characters[-9:], 6)) for _ in range(40)]
    train, scored = words[:30], words[30:32]

    losses = ngram_losses(train, scored, Vocabulary.of(characters), order=7, strength=2.0)

    naive = Naive(train, "".join([".", *characters]), 2.0)
    assert losses.nats == pytest.approx(naive.nats(scored, 7), abs=1e-9)


def test_nothing_to_count_or_to_score_is_refused() -> None:
    for train, words in (([], ["a"]), (["a"], [])):
        with pytest.raises(InputError, match="word"):
            choose_ngram(train, words, ABC)
    for words, order, strength in (
        (["ax"], 2, 1.0),
        (["a"], -1, 1.0),
        *((["a"], 1, strength) for strength in (0.0, -1.0, math.nan, math.inf)),
    ):
        with pytest.raises(InputError):
            ngram_losses(["a"], words, ABC, order=order, strength=strength)
