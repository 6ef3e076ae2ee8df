"""Losses of words under a model or a baseline; needs no torch.

Shape suffixes: N words, E characters of all words with their ends.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mmsearch.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class WordLosses:
    """The loss of each word of a list."""

    nats: NDArray[np.float64]
    """Negative log-likelihood of each word, its end included, shape (N,)."""
    n_targets: NDArray[np.int64]
    """Characters of each word, its end included, shape (N,)."""

    def __post_init__(self) -> None:
        """Check that there is a mean.

        Raises:
            InputError: there are no words.
        """
        if not len(self.nats):
            raise InputError("a score needs at least 1 word, got 0")

    @property
    def mean(self) -> float:
        """Nats a character, over all characters of all words."""
        return float(self.nats.sum() / self.n_targets.sum())


def by_word(nats_E: NDArray[np.float64], targets_E: NDArray[np.integer]) -> WordLosses:
    """Sum the losses of each word's characters.

    Args:
        nats_E: negative log-likelihood of each character.
        targets_E: id of each character; 0 ends a word.
    """
    ends_N = np.flatnonzero(targets_E == 0)
    n_targets_N = np.diff(ends_N, prepend=-1)
    return WordLosses(np.add.reduceat(nats_E, ends_N + 1 - n_targets_N), n_targets_N)


def by_position(
    nats_E: NDArray[np.float64], targets_E: NDArray[np.integer], n_positions: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Sum the losses of the characters at each position in their words.

    Args:
        nats_E: negative log-likelihood of each character.
        targets_E: id of each character; 0 ends a word.
        n_positions: number of positions that have a place of their own.

    Returns:
        Sums in nats and numbers of characters, each of shape (n_positions + 2,): for the 1st to the
        n-th character of a word, for all later ones, and for the ends of words.
    """
    ends_N = np.flatnonzero(targets_E == 0)
    starts_N = np.append(-1, ends_N[:-1]) + 1
    place_E = np.arange(len(targets_E)) - np.repeat(starts_N, ends_N - starts_N + 1)
    place_E = np.where(targets_E == 0, n_positions + 1, np.minimum(place_E, n_positions))
    n_places = n_positions + 2
    sums = np.bincount(place_E, weights=nats_E, minlength=n_places)
    counts = np.bincount(place_E, minlength=n_places)
    return sums.astype(np.float64), counts.astype(np.int64)
