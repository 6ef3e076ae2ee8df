"""Excluding a trial from the choice of a model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmsearch.search.results.selection import find_trial
from mmsearch.search.results.sync import sync_study
from mmsearch.search.study.locks import own

if TYPE_CHECKING:
    from mmsearch.search.study.workspace import Workspace
    from mmsearch.tracking.journal.journal import Journal
    from mmsearch.tracking.journal.records import TrialRecord


def exclude_trial(  # noqa: PLR0913 (the trial, why, and where it is shown)
    workspace: Workspace,
    journal: Journal,
    number: int,
    *,
    reason: str,
    storage: str | None,
    uri: str | None,
) -> TrialRecord:
    """Exclude a trial from the choice of a model, and show so in both views.

    Args:
        workspace: the study's workspace.
        journal: the study's journal.
        number: the trial.
        reason: why it is excluded; empty to take that back.
        storage: URL of the Optuna storage; None for the study's own.
        uri: MLflow's tracking URI; None for the study's own.

    Returns:
        The trial.

    Raises:
        InputError: there is no such trial.
        RefusedError: another process uses the study.
        MMSearchError: a view is away; the exclusion is recorded, and the next sync shows it.
    """
    find_trial(journal, number)
    with own(journal):
        journal.exclude(number, reason)
    sync_study(workspace, journal, storage, uri)
    return journal.read(number)
