"""The split is the lecture's, counts its leaks, and keeps its test words sealed."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import pickle
import pprint
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmsearch.data.corpus import Corpus
from mmsearch.data.split import Claim, SealedTest, Split, split_corpus
from mmsearch.errors import InputError, RefusedError

if TYPE_CHECKING:
    from collections.abc import Callable

# None of these words occurs in a fingerprint or in a field's name.
SECRETS = ("quetzal", "wombat", "xylophone")


def words(n: int) -> list[str]:
    """Make distinct words."""
    return [f"w{i}" for i in range(n)]


def claim_on(split: Split) -> Claim:
    """Make a claim that opens the split."""
    return Claim(model_sha256="0" * 64, split_fingerprint=split.fingerprint)


@given(n=st.integers(10, 3000), seed=st.integers(0, 2**63))
def test_parts_cover_the_words_once_and_none_is_empty(n: int, seed: int) -> None:
    split = split_corpus(Corpus.of(words(n), name="w"), seed)
    test = split.test.open(claim_on(split))

    assert sorted([*split.train, *split.dev, *test]) == sorted(words(n))
    assert len(split.train) == int(0.8 * n)
    assert len(split.train) + len(split.dev) == int(0.9 * n)
    assert min(len(split.dev), len(split.test)) >= 1
    assert (split.n_dev_in_train, split.n_test_in_train) == (0, 0)


def test_seed_decides_the_split() -> None:
    corpus = Corpus.of(words(100), name="w")

    assert split_corpus(corpus) == split_corpus(corpus, seed=42)
    assert split_corpus(corpus).fingerprint != split_corpus(corpus, seed=43).fingerprint


def test_negative_seed_is_refused() -> None:
    with pytest.raises(InputError, match="at least 0, got -42"):
        split_corpus(Corpus.of(words(100), name="w"), seed=-42)


@pytest.mark.parametrize("n", [0, 1, 2, 5])
def test_too_few_words_are_refused(n: int) -> None:
    with pytest.raises(InputError, match=f" {n} words"):
        split_corpus(Corpus.of(words(n), name="w"))


def test_leak_of_kept_repeats_is_counted() -> None:
    split = split_corpus(Corpus.of(words(50) * 2, name="w", keep_duplicates=True))
    test = split.test.open(claim_on(split))

    assert split.n_dev_in_train == sum(split.train.count(word) > 0 for word in split.dev) > 0
    assert split.n_test_in_train == sum(split.train.count(word) > 0 for word in test) > 0


def test_reference_split_has_the_known_leak(reference_split: Split) -> None:
    assert (len(reference_split.dev), len(reference_split.test)) == (3_203, 3_204)
    assert (reference_split.n_dev_in_train, reference_split.n_test_in_train) == (424, 377)


def test_sealed_test_opens_for_a_claim_on_itself() -> None:
    sealed = SealedTest(SECRETS)

    claim = Claim(model_sha256="0" * 64, split_fingerprint=sealed.fingerprint, look=2)

    assert sealed.open(claim) == SECRETS


@pytest.mark.parametrize("fingerprint", ["", "0" * 64])
def test_sealed_test_stays_shut_for_another_claim(fingerprint: str) -> None:
    sealed = SealedTest(SECRETS)

    with pytest.raises(RefusedError) as caught:
        sealed.open(Claim(model_sha256="0" * 64, split_fingerprint=fingerprint))

    assert not any(word in str(caught.value) for word in SECRETS)


def test_fingerprint_names_the_words_and_not_their_order() -> None:
    sealed = SealedTest(SECRETS)

    assert sealed.fingerprint == SealedTest(SECRETS[::-1]).fingerprint
    assert sealed.fingerprint == hashlib.sha256("\n".join(SECRETS).encode()).hexdigest()
    assert sealed.fingerprint != SealedTest(SECRETS[:2]).fingerprint
    assert sealed.fingerprint != SealedTest((*SECRETS, "wombat")).fingerprint
    assert sealed == SealedTest(SECRETS[::-1])
    assert hash(sealed) == hash(SealedTest(SECRETS[::-1]))
    assert sealed != SECRETS


@pytest.mark.parametrize("show", [repr, str, pprint.pformat, "{}".format])
def test_nothing_printed_shows_a_test_word(show: Callable[[object], str]) -> None:
    sealed = SealedTest(SECRETS)
    split = Split(
        train=("a",), dev=("b",), test=sealed, seed=1, n_dev_in_train=0, n_test_in_train=0
    )

    assert sealed.fingerprint in show(sealed)
    assert "n_words=3" in show(sealed)
    assert not any(word in show(value) for word in SECRETS for value in (sealed, split))


def test_test_words_cannot_be_sent_or_copied() -> None:
    split = split_corpus(Corpus.of(words(50), name="w"))
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TypeError):
            pickle.dumps(split.test, protocol)
    takes: list[Callable[[Any], object]] = [pickle.dumps, copy.deepcopy]
    for take in takes:
        for part in (split, split.test):
            with pytest.raises(TypeError):
                take(part)
    with pytest.raises(TypeError):
        copy.copy(split.test)
    with pytest.raises(TypeError):
        dataclasses.asdict(split)


def test_sealed_test_is_not_a_collection() -> None:
    reads: list[Callable[[Any], object]] = [list, tuple, set, vars]
    reads += [lambda sealed: sealed[0], lambda sealed: "wombat" in sealed]
    for read in reads:
        with pytest.raises(TypeError):
            read(SealedTest(SECRETS))


def test_claim_cannot_change() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Claim(model_sha256="a", split_fingerprint="b").look = 2  # type: ignore[misc]
