"""A model's losses over all of train and dev, by position in the word, and for unseen words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mmsearch.model.arithmetic import fix_arithmetic
from mmsearch.model.losses import by_position, by_word
from mmsearch.model.scoring import character_losses
from mmsearch.search.results.selection import choose
from mmsearch.search.results.word_samples import read_model

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmsearch.search.study.session import Session

N_POSITIONS = 10
"""Characters of a word whose losses are shown one by one; those of later ones are one mean."""


def split_losses(session: Session, number: int | None) -> dict[str, Any]:
    """Score a trial's model on all words of train and of dev.

    Args:
        session: the study.
        number: the trial's number; None for the chosen model.

    Returns:
        JSON values: `study`, `trial`, `model`, `state`, `note` (a remark, or empty); `train`,
        `dev`, `dev_in_train` and `dev_not_in_train`, each with `loss` in nats per character,
        `n_words` and `n_characters`, the ends of words included, the last two None where no dev
        word is in train; and `dev_by_position`, a list of objects with `position`, `loss` and
        `n_characters`.

    Raises:
        InputError: there is no such trial, or it has no weights.
        RefusedError: no trial is complete.
        JournalError: a file is damaged.
    """
    fix_arithmetic()
    choice = choose(session.journal, number)
    words, record = session.words, choice.record
    parameters = read_model(choice, words.vocabulary)
    dev_E, targets_E = character_losses(parameters, words.dev, words.vocabulary)
    train = by_word(*character_losses(parameters, words.train, words.vocabulary))
    dev = by_word(dev_E, targets_E)
    known = frozenset(words.train)
    is_known_N = np.array([word in known for word in words.dev])
    return {
        "study": session.journal.name,
        "trial": record.facts.get("trial", record.number),
        "model": record.name,
        "state": record.state,
        "note": choice.unsettled,
        "train": _mean(train.nats, train.n_targets),
        "dev": _mean(dev.nats, dev.n_targets),
        **{
            name: _mean(dev.nats[rows], dev.n_targets[rows]) if is_known_N.any() else None
            for name, rows in (("dev_in_train", is_known_N), ("dev_not_in_train", ~is_known_N))
        },
        "dev_by_position": _positions(dev_E, targets_E),
    }


def _mean(nats: NDArray[np.float64], n_targets: NDArray[np.int64]) -> dict[str, Any] | None:
    """Return the mean of the losses of words, and what it is a mean of; None without words."""
    if not len(nats):
        return None
    n_characters = int(n_targets.sum())
    loss = float(nats.sum()) / n_characters
    return {"loss": loss, "n_words": len(nats), "n_characters": n_characters}


def _positions(nats_E: NDArray[np.float64], targets_E: NDArray[np.int64]) -> list[dict[str, Any]]:
    """Return the mean loss of each position that a word has."""
    sums, counts = by_position(nats_E, targets_E, N_POSITIONS)
    names = [*map(str, range(1, N_POSITIONS + 1)), f"{N_POSITIONS + 1}+", "end"]
    return [
        {"position": name, "loss": float(total) / int(n), "n_characters": int(n)}
        for name, total, n in zip(names, sums, counts, strict=True)
        if n
    ]
