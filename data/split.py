"""The split: 80/10/10 of the shuffled words into train, dev and a sealed test part."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NoReturn

from mmsearch.counts import counted
from mmsearch.errors import InputError, RefusedError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mmsearch.data.corpus import Corpus, Vocabulary

DEFAULT_SPLIT_SEED = 42
"""Makemore's seed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """A claim to evaluate one named model on the test split.

    The caller writes it into the ledger before it opens the split.
    """

    model_sha256: str
    """SHA-256 of the model's weights, 64 hex digits."""
    split_fingerprint: str
    """Fingerprint of the test split that the claim is on."""
    look: int = 1
    """Number of the look at the split; above 1 only with `--again`."""


class SealedTest:
    """Test words that cannot be read by accident.

    It can be counted, fingerprinted and compared, but not iterated, indexed, printed, copied or
    pickled, so that no word reaches a log, a traceback or a worker process. `open` returns the
    words for a claim on this split.

    This prevents accidents, not intent: the corpus and the seed determine the words.
    """

    __slots__ = ("__words", "_fingerprint")

    def __init__(self, words: Sequence[str]) -> None:
        """Seal words; the caller must not keep another reference to them."""
        self.__words = tuple(words)
        # Sorted, so that equal words have one fingerprint in any study.
        listed = "\n".join(sorted(self.__words))
        self._fingerprint = hashlib.sha256(listed.encode()).hexdigest()

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the sorted words, joined by newlines, in UTF-8; 64 hex digits."""
        return self._fingerprint

    @property
    def n_contexts(self) -> int:
        """Number of contexts: the characters of the words and their ends."""
        return sum(len(word) + 1 for word in self.__words)

    def open(self, claim: Claim) -> tuple[str, ...]:
        """Return the words, in the order of the shuffle.

        Raises:
            RefusedError: the claim is on another split.
        """
        if claim.split_fingerprint != self._fingerprint:
            msg = (
                f"the test split {self._fingerprint[:12]} opens only for a claim on itself, got "
                f"a claim on {claim.split_fingerprint[:12]!r}; use the study, corpus and seed "
                "that the claim was made for"
            )
            raise RefusedError(msg)
        return self.__words

    def __len__(self) -> int:
        """Return the number of words, repeats included."""
        return len(self.__words)

    def __eq__(self, other: object) -> bool:
        """Return whether both have the same words."""
        if not isinstance(other, SealedTest):
            return NotImplemented
        return self._fingerprint == other._fingerprint

    def __hash__(self) -> int:
        """Hash the fingerprint."""
        return hash(self._fingerprint)

    def __repr__(self) -> str:
        """Return the count and the fingerprint, without any word."""
        return f"SealedTest(n_words={len(self)}, fingerprint={self._fingerprint!r})"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        """Refuse `pickle`, `copy.copy` and `copy.deepcopy`, which all call this.

        Raises:
            TypeError: always.
        """
        msg = "a SealedTest cannot be pickled or copied; send a worker only the train and dev words"
        raise TypeError(msg)


@dataclass(frozen=True, slots=True)
class Words:
    """The words that training may see: train and dev, not test."""

    train: tuple[str, ...]
    dev: tuple[str, ...]
    vocabulary: Vocabulary


@dataclass(frozen=True, kw_only=True, slots=True)
class Split:
    """The three parts of a corpus. It cannot be pickled, because its test part cannot."""

    train: tuple[str, ...] = field(repr=False)
    """The first 80 % of the shuffled words."""
    dev: tuple[str, ...] = field(repr=False)
    """The next 10 %, on which every choice is made."""
    test: SealedTest
    """The last 10 %, opened once, for a claim."""
    seed: int
    """Seed of the shuffle."""
    n_dev_in_train: int
    """Number of dev words that are also in train; 0 unless repeated lines are kept."""
    n_test_in_train: int
    """Number of test words that are also in train; 0 unless repeated lines are kept."""

    @property
    def fingerprint(self) -> str:
        """The test part's fingerprint, which names the split in a claim."""
        return self.test.fingerprint


def split_corpus(corpus: Corpus, seed: int = DEFAULT_SPLIT_SEED) -> Split:
    """Shuffle the words and split them 80/10/10, as makemore does.

    Args:
        corpus: the words; a repeated one may be in more than one part.
        seed: at least 0; the order is that of `random.Random(seed).shuffle`.

    Raises:
        InputError: the seed is negative, or there are too few words to fill each part.
    """
    if seed < 0:  # Random(-42) equals Random(42), and one split would have two seeds
        msg = f"the split seed must be at least 0, got {seed}; the default is {DEFAULT_SPLIT_SEED}"
        raise InputError(msg)
    words = list(corpus.words)
    random.Random(seed).shuffle(words)  # noqa: S311  (a repeatable order, not a secret)
    n1 = int(0.8 * len(words))
    n2 = int(0.9 * len(words))
    if not 0 < n1 < n2 < len(words):
        msg = (
            f"corpus {corpus.name!r} has {counted(len(words), 'word')}, too few for a train, a dev "
            "and a test part; it needs at least 10"
        )
        raise InputError(msg)
    known = frozenset(words[:n1])
    return Split(
        train=tuple(words[:n1]),
        dev=tuple(words[n1:n2]),
        test=SealedTest(words[n2:]),
        seed=seed,
        n_dev_in_train=sum(word in known for word in words[n1:n2]),
        n_test_in_train=sum(word in known for word in words[n2:]),
    )
