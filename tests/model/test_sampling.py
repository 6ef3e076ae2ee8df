"""Sampling: the article's loop, the softmax, and the bounds of what is asked for."""

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
ABC = Vocabulary.of("abc")
BLOCK_SIZE = 3
MODEL = make_parameters(27, 10, 50, BLOCK_SIZE)


def bias_only(logits: list[float]) -> Parameters:
    """Return a model over `.abc` that gives these logits after any context."""
    parameters = make_parameters(4, 2, 3, BLOCK_SIZE).map(torch.zeros_like)
    parameters.b2[:] = torch.tensor(logits)
    return parameters


def words(**arguments: Any) -> list[str]:
    return [sample.word for sample in sample_words(MODEL, LETTERS, **arguments)]


def article_words(n_words: int, seed: int) -> list[str]:
    """Sample by the article's own loop."""
    C, W1, b1, W2, b2 = MODEL.named().values()
    g = torch.Generator().manual_seed(seed)
    found = []
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
        found.append("".join(LETTERS.itos[i] for i in out[:-1]))
    return found


def test_words_are_those_of_the_articles_loop_and_seed() -> None:
    assert words() == article_words(20, seed=2147483647 + 10)
    assert words(seed=3) == words(seed=3) != words(seed=4)


@pytest.mark.parametrize(
    ("logits", "expected"),
    [
        ([1e9, 0.0, 0.0, 0.0], Sample("", is_cut=False)),
        ([-1e9, 0.0, 1e9, 0.0], Sample("b" * MAX_LENGTH, is_cut=True)),
    ],
    ids=["ends at once", "never ends"],
)
def test_word_is_cut_only_where_the_model_does_not_end_it(
    logits: list[float], expected: Sample
) -> None:
    assert sample_words(bias_only(logits), ABC, 2) == [expected] * 2


def test_first_letters_follow_the_softmax_within_four_and_a_half_sigma() -> None:
    n_words = 3_000
    begin = torch.zeros(1, BLOCK_SIZE, dtype=torch.int64)
    p_V = torch.softmax(forward(MODEL, begin)[0].double(), 0).tolist()

    counts = Counter(words(n_words=n_words, max_length=1))

    for character, p in zip(("", *LETTERS.characters[1:]), p_V, strict=True):
        sigma = math.sqrt(n_words * p * (1 - p))
        assert abs(counts[character] - n_words * p) <= 4.5 * sigma + 1, character


@pytest.mark.parametrize("prefix", ["", "a", "em", "emm", "emma", "alexandra"])
def test_low_temperature_takes_the_likeliest_character_after_the_prefix(prefix: str) -> None:
    expected = prefix
    while len(expected) < 12:
        context = ([0] * BLOCK_SIZE + LETTERS.encode(expected))[-BLOCK_SIZE:]
        likeliest = int(forward(MODEL, torch.tensor([context]))[0].argmax())
        if likeliest == 0:
            break
        expected += LETTERS.characters[likeliest]

    assert words(n_words=5, prefix=prefix, temperature=1e-6, max_length=12) == [expected] * 5


@settings(max_examples=50)
@given(temperature=st.floats(0, exclude_min=True, allow_infinity=False))
def test_any_positive_temperature_samples(temperature: float) -> None:
    assert len(words(n_words=2, temperature=temperature, max_length=3)) == 2


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
def test_bad_argument_is_refused_with_its_value(arguments: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError, match=named):
        words(**arguments)
