"""The split: the lecture's shuffle, its leaks counted, and the test words sealed."""

import copy
import dataclasses
import hashlib
import pickle
import pprint
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmsearch.data.corpus import Corpus
from mmsearch.data.split import Claim, SealedTest, Split, split_corpus
from mmsearch.errors import InputError, RefusedError

# None of these words occurs in a fingerprint or in a field's name.
SECRETS = ("quetzal", "wombat", "xylophone")
SEALED = SealedTest(SECRETS)


def corpus_of(n_words: int, n_times: int = 1) -> Corpus:
    words = [f"w{i}" for i in range(n_words)] * n_times
    return Corpus.of(words, name="w", keep_duplicates=True)


def claim_on(fingerprint: str, look: int = 1) -> Claim:
    return Claim(model_sha256="0" * 64, split_fingerprint=fingerprint, look=look)


@given(
    n_words=st.integers(10, 3000),
    n_times=st.integers(1, 2),
    seed=st.integers(0, 2**63),
)
def test_parts_are_eight_one_and_one_tenth_and_their_leaks_are_counted(
    n_words: int, n_times: int, seed: int
) -> None:
    corpus = corpus_of(n_words, n_times)
    n = len(corpus.words)

    split = split_corpus(corpus, seed)
    test = split.test.open(claim_on(split.fingerprint))

    assert sorted([*split.train, *split.dev, *test]) == sorted(corpus.words)
    assert len(split.train) == int(0.8 * n)
    assert len(split.train) + len(split.dev) == int(0.9 * n)
    assert min(len(split.dev), len(split.test)) >= 1
    known = set(split.train)
    assert split.n_dev_in_train == sum(word in known for word in split.dev)
    assert split.n_test_in_train == sum(word in known for word in test)
    assert split_corpus(corpus, seed) == split
    other = split_corpus(corpus_of(100), seed + 1)
    assert split_corpus(corpus_of(100), seed).fingerprint != other.fingerprint


def test_seed_is_the_articles_by_default() -> None:
    assert split_corpus(corpus_of(100)) == split_corpus(corpus_of(100), seed=42)


def test_reference_split_is_the_articles_with_its_leak(reference_split: Split) -> None:
    split = reference_split
    assert (len(split.dev), len(split.test)) == (3_203, 3_204)
    assert (split.n_dev_in_train, split.n_test_in_train) == (424, 377)


@pytest.mark.parametrize(
    ("n_words", "seed", "named"),
    [
        (100, -42, "-42"),  # Python shuffles by -42 as by 42, which would name one split twice
        *((n, 42, f" {n} word") for n in (0, 1, 2, 5)),
    ],
)
def test_split_that_cannot_be_is_refused(n_words: int, seed: int, named: str) -> None:
    with pytest.raises(InputError, match=named):
        split_corpus(corpus_of(n_words), seed)


@pytest.mark.parametrize("fingerprint", ["", "0" * 64])
def test_sealed_words_open_only_for_a_claim_on_them(fingerprint: str) -> None:
    assert SEALED.open(claim_on(SEALED.fingerprint, look=2)) == SECRETS

    with pytest.raises(RefusedError) as caught:
        SEALED.open(claim_on(fingerprint))

    assert not any(word in str(caught.value) for word in SECRETS)
    with pytest.raises(dataclasses.FrozenInstanceError):
        claim_on(fingerprint).split_fingerprint = SEALED.fingerprint  # type: ignore[misc]


def test_fingerprint_names_the_test_words_in_any_order() -> None:
    turned = SealedTest(SECRETS[::-1])

    assert hashlib.sha256("\n".join(SECRETS).encode()).hexdigest() == turned.fingerprint
    assert SEALED.fingerprint == turned.fingerprint
    assert SEALED.fingerprint != SealedTest(SECRETS[:2]).fingerprint
    assert SEALED.fingerprint != SealedTest((*SECRETS, "wombat")).fingerprint
    assert turned == SEALED
    assert hash(SEALED) == hash(turned)
    assert SEALED != SECRETS


@pytest.mark.parametrize("show", [repr, str, pprint.pformat, "{}".format])
def test_nothing_printed_shows_a_test_word(show: Callable[[object], str]) -> None:
    split = Split(
        train=("a",), dev=("b",), test=SEALED, seed=1, n_dev_in_train=0, n_test_in_train=0
    )

    assert SEALED.fingerprint in show(SEALED)
    assert "n_words=3" in show(SEALED)
    assert not any(word in show(value) for word in SECRETS for value in (SEALED, split))


DUMPS = [
    lambda value, protocol=protocol: pickle.dumps(value, protocol)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1)
]
READS: list[Callable[[Any], object]] = [
    *(list, tuple, set, vars, copy.copy),
    lambda sealed: sealed[0],
    lambda sealed: "wombat" in sealed,
]


def test_test_words_cannot_be_read_sent_or_copied() -> None:
    split = split_corpus(corpus_of(50))
    takes: list[Callable[[Any], object]] = [*DUMPS, copy.deepcopy]
    for take in (*takes, *READS):
        with pytest.raises(TypeError):
            take(SEALED)
    for take in (*takes, dataclasses.asdict):
        with pytest.raises(TypeError):
            take(split)
