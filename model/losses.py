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
