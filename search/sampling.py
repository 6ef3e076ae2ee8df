"""New words from a trial's model, with the ones that it has only learnt by heart marked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmsearch.data.corpus import BUILTIN_CORPUS, Vocabulary, read_corpus
from mmsearch.data.split import split_corpus
from mmsearch.errors import InputError
from mmsearch.model import checkpoint
from mmsearch.model.sampling import sample_words
from mmsearch.search.study_file import StudyFile
from mmsearch.tracking.journal import best_trial

if TYPE_CHECKING:
    from mmsearch.tracking.journal import Journal, TrialRecord


def sample_trial(  # noqa: PLR0913 (each is one flag)
    journal: Journal,
    number: int | None,
    count: int,
    *,
    seed: int,
    prefix: str,
    temperature: float,
) -> dict[str, Any]:
    """Draw words from a trial's latest weights.

    Args:
        journal: of its study.
        number: of the trial; None for the best complete one.
        count: how many words.
        seed: of the draws.
        prefix: what each word begins with.
        temperature: divides the logits.

    Returns:
        JSON values: `trial`, `dev_loss`, and `words` with `word`, `in_train`, `is_cut` each.

    Raises:
        InputError: there is no such trial, or an argument is out of range.
        JournalError: the weights are damaged.
    """
    record = _choose(journal, number)
    file = StudyFile.require(journal)
    vocabulary = Vocabulary(characters=tuple(file.vocabulary))
    parameters = checkpoint.from_bytes(journal.read_weights(record))
    drawn = sample_words(
        parameters, vocabulary, count, seed=seed, prefix=prefix, temperature=temperature
    )
    corpus = read_corpus(
        Path(file.corpus) if file.corpus else BUILTIN_CORPUS,
        keep_duplicates=file.settings.keep_duplicates,
    )
    known = frozenset(split_corpus(corpus, file.settings.split_seed).train)
    return {
        "trial": record.number,
        "dev_loss": record.dev_loss,
        "words": [{"word": s.word, "in_train": s.word in known, "is_cut": s.is_cut} for s in drawn],
    }


def _choose(journal: Journal, number: int | None) -> TrialRecord:
    if number is None:
        best = best_trial(journal.records())
        if best is None:
            raise InputError(
                f"study {journal.name!r} has no complete trial yet; wait for one, or name a trial "
                "with --trial"
            )
        return best
    if number not in journal.numbers():
        raise InputError(f"study {journal.name!r} has no trial {number}; see: mmsearch trials")
    record = journal.read(number)
    if not record.curve:
        raise InputError(f"trial {number} has no weights yet; see: mmsearch trials")
    return record
