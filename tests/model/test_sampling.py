"""Sampled words come from the model's own probabilities, and from the article's seed."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from mmsearch.data.corpus import Vocabulary
from mmsearch.errors import InputError
from mmsearch.model.mlp import Parameters, forward
from mmsearch.model.sampling import MAX_LENGTH, Sample, sample_words
from tests.support.specs import make_parameters

LETTERS = Vocabulary.of("abcdefghijklmnopqrstuvwxyz")
BLOCK_SIZE = 3
MODEL = make_parameters(27, 10, 50, BLOCK_SIZE)


def bias_only(logits: list[float]) -> Parameters:
    """Make a model over `.abc` that gives these logits after any context."""
    parameters = make_parameters(4, 2, 3, BLOCK_SIZE).map(torch.zeros_like)
    parameters.b2[:] = torch.tensor(logits)
    return parameters


ABC = Vocabulary.of("abc")


def article_words(parameters: Parameters, n_words: int, seed: int) -> list[str]:
    """Sample by the article's own loop."""
    C, W1, b1, W2, b2 = parameters.named().values()
    g = torch.Generator().manual_seed(seed)
    words = []
    for _ in range(n_words):
        out = []
        context = [0] * BLOCK_SIZE
        while True:
            emb = C[torch.tensor([context])]
            h = torch.tanh(emb.view(1, -1) @ W1 + b1)
            probs = functional.softmax(h @ W2 + b2, dim=1)
            ix = int(torch.multinomial(probs, num_samples=1, generator=g))
            context = [*context[1:], ix]
            out.append(ix)
            if ix == 0:
                break
        words.append("".join(LETTERS.itos[i] for i in out[:-1]))
    return words


def test_words_are_those_of_the_articles_loop() -> None:
    expected = article_words(MODEL, 20, seed=2147483647 + 10)

    assert [sample.word for sample in sample_words(MODEL, LETTERS)] == expected


def test_one_seed_gives_one_list() -> None:
    first, again, other = (sample_words(MODEL, LETTERS, seed=seed) for seed in (3, 3, 4))

    assert first == again
    assert first != other


def test_model_that_never_ends_is_cut_and_says_so() -> None:
    endless = bias_only([-1e9, 1.0, 1.0, 1.0])

    samples = sample_words(endless, ABC, 3)

    assert all(sample.is_cut and len(sample.word) == MAX_LENGTH for sample in samples)


def test_word_that_ends_by_itself_is_not_called_cut() -> None:
    at_once = bias_only([1e9, 0.0, 0.0, 0.0])

    assert sample_words(at_once, ABC, 2) == [Sample("", is_cut=False)] * 2


def test_first_letters_follow_the_softmax() -> None:
    n_words = 3_000
    begin = torch.zeros(1, BLOCK_SIZE, dtype=torch.int64)
    p_V = torch.softmax(forward(MODEL, begin)[0].double(), 0).tolist()

    samples = sample_words(MODEL, LETTERS, n_words, max_length=1)
    counts = Counter(sample.word for sample in samples)

    for character, p in zip(("", *LETTERS.characters[1:]), p_V, strict=True):
        sigma = math.sqrt(n_words * p * (1 - p))
        assert abs(counts[character] - n_words * p) <= 4.5 * sigma + 1, character


def test_low_temperature_takes_the_likeliest_character() -> None:
    expected, context = "", [0] * BLOCK_SIZE
    while len(expected) < 12:
        likeliest = int(forward(MODEL, torch.tensor([context]))[0].argmax())
        if likeliest == 0:
            break
        expected += LETTERS.characters[likeliest]
        context = [*context[1:], likeliest]

    samples = sample_words(MODEL, LETTERS, 5, temperature=1e-6, max_length=12)

    assert {sample.word for sample in samples} == {expected}


@settings(deadline=None, max_examples=50)
@given(temperature=st.floats(0, exclude_min=True, allow_infinity=False))
def test_any_positive_temperature_samples(temperature: float) -> None:
    assert len(sample_words(MODEL, LETTERS, 2, temperature=temperature, max_length=3)) == 2


@pytest.mark.parametrize("prefix", ["", "a", "em", "emm", "emma", "alexandra"])
def test_words_begin_with_the_prefix(prefix: str) -> None:
    samples = sample_words(MODEL, LETTERS, 10, prefix=prefix, temperature=1e-6)
    context = ([0] * BLOCK_SIZE + LETTERS.encode(prefix))[-BLOCK_SIZE:]
    likeliest = int(forward(MODEL, torch.tensor([context]))[0].argmax())
    following = LETTERS.characters[likeliest] if likeliest else ""

    assert len(samples) == 10
    assert all(sample.word.startswith(prefix + following) for sample in samples)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"prefix": "zoë"}, "'ë'"),
        ({"prefix": "a.b"}, r"'\.'"),
        ({"n_words": 0}, "got 0"),
        ({"max_length": 0}, "got 0"),
        ({"seed": -1}, "seed.*got -1"),
        ({"seed": 2**64}, f"seed.*got {2**64}"),
        *(({"temperature": t}, f"got {t}") for t in (0.0, -1.0, math.inf, math.nan)),
    ],
)
def test_bad_argument_is_refused(arguments: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError, match=named):
        sample_words(MODEL, LETTERS, **arguments)
