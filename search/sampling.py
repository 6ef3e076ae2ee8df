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
        JSON values: `trial`, `state`, `dev_loss`, `note` (why no word is marked, or empty), and
        `words` with `word`, `in_train` (None where it is not known) and `is_cut` each.

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
    known, note = _train_words(file)
    return {
        "trial": record.number,
        "state": record.state,
        "dev_loss": record.dev_loss,
        "note": note,
        "words": [
            {
                "word": s.word,
                "in_train": None if known is None else s.word in known,
                "is_cut": s.is_cut,
            }
            for s in drawn
        ],
    }


def _train_words(file: StudyFile) -> tuple[frozenset[str] | None, str]:
    """Give the words that the study trained on; None and why, where they are no longer there."""
    path = Path(file.corpus) if file.corpus else BUILTIN_CORPUS
    try:
        corpus = read_corpus(path, keep_duplicates=file.settings.keep_duplicates)
    except InputError as error:
        return None, f"words of train are not marked: {error}"
    if corpus.fingerprint != file.corpus_fingerprint:
        return None, f"words of train are not marked: {str(path)!r} has changed since the study"
    return frozenset(split_corpus(corpus, file.settings.split_seed).train), ""


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
