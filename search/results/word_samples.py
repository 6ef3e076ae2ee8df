"""New words from a model, with those that occur in train marked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmsearch.data.corpus import BUILTIN_CORPUS, Vocabulary, lowered, normalized, read_corpus
from mmsearch.data.split import split_corpus
from mmsearch.errors import InputError
from mmsearch.model import checkpoint
from mmsearch.model.arithmetic import fix_arithmetic
from mmsearch.model.sampling import sample_words
from mmsearch.search.results.selection import choose
from mmsearch.search.study.study_file import StudyFile
from mmsearch.tracking.journal.files import damaged

if TYPE_CHECKING:
    from mmsearch.model.mlp import Parameters
    from mmsearch.search.results.selection import Choice
    from mmsearch.tracking.journal.journal import Journal


def sample_trial(  # noqa: PLR0913 (each is one flag)
    journal: Journal,
    number: int | None,
    count: int,
    *,
    seed: int,
    prefix: str,
    temperature: float,
) -> dict[str, Any]:
    """Sample words from a trial's latest weights.

    Args:
        journal: the study's journal.
        number: the trial's number; None for the chosen model.
        count: number of words.
        seed: seed of the draws.
        prefix: start of each word.
        temperature: divides the logits.

    Returns:
        JSON values: `trial`, `model`, `state`, `dev_loss`, `note` (a remark, or empty) and
        `words`, each with `word`, `in_train` (None if unknown) and `is_cut`.

    Raises:
        InputError: there is no such trial, or an argument is out of range.
        RefusedError: no trial is complete.
        JournalError: the weights are damaged.
    """
    fix_arithmetic()
    choice = choose(journal, number)
    record = choice.record
    file = StudyFile.require(journal)
    vocabulary = Vocabulary(characters=tuple(file.vocabulary))
    parameters = read_model(choice, vocabulary)
    drawn = sample_words(
        parameters,
        vocabulary,
        count,
        seed=seed,
        prefix=(lowered if file.settings.lower else normalized)(prefix),
        temperature=temperature,
    )
    known, note = _train_words(file)
    return {
        "trial": record.facts.get("trial", record.number),
        "model": record.name,
        "state": record.state,
        "dev_loss": record.dev_loss,
        "note": "; ".join(filter(None, (choice.unsettled, note))),
        "words": [
            {
                "word": s.word,
                "in_train": None if known is None else s.word in known,
                "is_cut": s.is_cut,
            }
            for s in drawn
        ],
    }


def read_model(choice: Choice, vocabulary: Vocabulary) -> Parameters:
    """Read the weights of a chosen model.

    Args:
        choice: the model.
        vocabulary: the study's vocabulary.

    Raises:
        JournalError: the weights are damaged, or are those of another vocabulary.
    """
    parameters = checkpoint.from_bytes(choice.journal.read_weights(choice.record))
    if len(parameters.b2) != vocabulary.size:
        raise damaged(
            choice.journal.folder / "study.json",
            f"it has {vocabulary.size} characters, but the model has {len(parameters.b2)}",
        )
    return parameters


def _train_words(file: StudyFile) -> tuple[frozenset[str] | None, str]:
    """Return the study's train words; None and the reason if they cannot be read."""
    path = Path(file.corpus) if file.corpus else BUILTIN_CORPUS
    try:
        corpus = read_corpus(path, **file.settings.reading)
    except InputError as error:
        return None, f"train words are not marked: {error}"
    if corpus.fingerprint != file.corpus_fingerprint:
        return None, f"train words are not marked: {str(path)!r} has changed since the study"
    return frozenset(split_corpus(corpus, file.settings.split_seed).train), ""
