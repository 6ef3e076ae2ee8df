"""Train, dev and a sealed test: 80/10/10 of the shuffled words."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NoReturn

from mmsearch.errors import InputError, RefusedError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mmsearch.data.corpus import Corpus, Vocabulary

DEFAULT_SPLIT_SEED = 42
"""The article's seed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """The note that the test split is about to be spent on one named model.

    Nothing is durable here: whoever makes a claim writes it into the ledger first.
    """

    model_sha256: str
    """SHA-256 of the model's weights, 64 hex digits."""
    split_fingerprint: str
    """Fingerprint of the test split that the claim is on."""
    look: int = 1
    """1 for the first look at the split; more only after an owner said why."""


class SealedTest:
    """Test words that nothing reads by accident.

    It can be counted, named by its fingerprint and compared; it cannot be iterated, indexed,
    printed, copied or pickled, so the words reach no log, traceback or worker process.
    `open` hands them out for a claim on this very split.

    It stops accidents, not owners: who holds the corpus and the seed can shuffle the words
    again, and who wants around a Python attribute gets around it.
    """

    __slots__ = ("__words", "_fingerprint")

    def __init__(self, words: Sequence[str]) -> None:
        """Seal words; the caller keeps no other reference to them."""
        self.__words = tuple(words)
        # Sorted, so that the same words have one name whatever shuffle or study they come from.
        listed = "\n".join(sorted(self.__words))
        self._fingerprint = hashlib.sha256(listed.encode()).hexdigest()

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the sorted words, joined by newlines, in UTF-8; 64 hex digits."""
        return self._fingerprint

    def open(self, claim: Claim) -> tuple[str, ...]:
        """Hand out the words, in the order of the shuffle.

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
        """Count the words, repeats included."""
        return len(self.__words)

    def __eq__(self, other: object) -> bool:
        """Say whether both seal the same words."""
        if not isinstance(other, SealedTest):
            return NotImplemented
        return self._fingerprint == other._fingerprint

    def __hash__(self) -> int:
        """Hash the fingerprint."""
        return hash(self._fingerprint)

    def __repr__(self) -> str:
        """Show the count and the fingerprint, and no word."""
        return f"SealedTest(n_words={len(self)}, fingerprint={self._fingerprint!r})"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        """Refuse: `pickle`, `copy.copy` and `copy.deepcopy` all come through here.

        Raises:
            TypeError: always.
        """
        msg = "a SealedTest is not pickled or copied; send a worker the train and dev words alone"
        raise TypeError(msg)


@dataclass(frozen=True, slots=True)
class Words:
    """The words that training may see; no test word is among them."""

    train: tuple[str, ...]
    dev: tuple[str, ...]
    vocabulary: Vocabulary


@dataclass(frozen=True, kw_only=True, slots=True)
class Split:
    """The three parts of a corpus. It cannot be pickled, because its test part cannot."""

    train: tuple[str, ...] = field(repr=False)
    """The first 80 % of the shuffled words."""
    dev: tuple[str, ...] = field(repr=False)
    """The next 10 %: what every choice is made on."""
    test: SealedTest
    """The last 10 %: opened once, for a claim."""
    seed: int
    """Seed of the shuffle."""
    n_dev_in_train: int
    """Dev words that also stand in train; not 0 only where repeated lines were kept."""
    n_test_in_train: int
    """Test words that also stand in train; not 0 only where repeated lines were kept."""

    @property
    def fingerprint(self) -> str:
        """The test part's fingerprint, which names the split in a claim."""
        return self.test.fingerprint


def split_corpus(corpus: Corpus, seed: int = DEFAULT_SPLIT_SEED) -> Split:
    """Shuffle the words and cut them 80/10/10, as the article does.

    Args:
        corpus: repeated words in it may land in more than one part.
        seed: at least 0; `random.Random(seed).shuffle` draws the order.

    Raises:
        InputError: the seed is negative, or there are too few words to fill each part.
    """
    if seed < 0:  # Random(-42) shuffles as Random(42) does: two names for one split
        msg = f"the split seed must be at least 0, got {seed}; {DEFAULT_SPLIT_SEED} is the usual"
        raise InputError(msg)
    words = list(corpus.words)
    random.Random(seed).shuffle(words)  # noqa: S311  (a repeatable order, not a secret)
    n1 = int(0.8 * len(words))
    n2 = int(0.9 * len(words))
    if not 0 < n1 < n2 < len(words):
        msg = (
            f"corpus {corpus.name!r} must fill a train, a dev and a test part, "
            f"got {len(words)} words; give it at least 10"
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
