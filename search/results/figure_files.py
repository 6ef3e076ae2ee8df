"""The figures of a study or of a trial, as files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmsearch.errors import RefusedError
from mmsearch.search.results.export import new_folder
from mmsearch.search.results.selection import choose
from mmsearch.search.results.summary import summarise
from mmsearch.search.study.study_file import StudyFile
from mmsearch.tracking.figures import build

if TYPE_CHECKING:
    from pathlib import Path

    from mmsearch.tracking.figures.style import Format
    from mmsearch.tracking.journal.journal import Journal


def write_figures(journal: Journal, number: int | None, folder: Path, form: Format) -> list[Path]:
    """Draw a study or one of its trials into a folder that is new or empty.

    Args:
        journal: the study's journal.
        number: the trial's number; None for the study.
        folder: where to write.
        form: file format.

    Returns:
        The paths of the files.

    Raises:
        InputError: the folder is not empty or is a file, or the trial does not exist or has no
            weights.
        RefusedError: no trial of the study has ended.
        JournalError: a file is damaged.
        MMSearchError: the folder cannot be written.
    """
    file = StudyFile.require(journal)
    if number is not None:
        choice = choose(journal, number)
        weights = choice.journal.read_weights(choice.record)
        with new_folder(folder):
            return build.trial_figures(choice.record, weights, tuple(file.vocabulary), folder, form)
    summary = summarise(journal, file, looks=())
    if not any(trial.outcome and trial.curve for trial in summary.trials):
        raise RefusedError(
            f"study {journal.name!r} has no trial to draw yet; wait until one has ended"
        )
    with new_folder(folder):
        return build.study_figures(summary, journal.name, folder, form)
