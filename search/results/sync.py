"""`mmsearch sync`: fill both views of a study from its journal."""

from __future__ import annotations

import contextlib
import logging
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from mmsearch.counts import counted
from mmsearch.errors import MMSearchError
from mmsearch.search.results.publish import mlflow_at, open_tracker, show_looks, sync_later
from mmsearch.search.results.selection import confirmations, extensions
from mmsearch.search.results.summary import summarise
from mmsearch.search.study.locks import own
from mmsearch.search.study.study_file import StudyFile, keep_places
from mmsearch.search.study.urls import check_apart, ledger_folder, storage_url, tracking_uri
from mmsearch.tracking.journal.files import JournalError
from mmsearch.tracking.journal.logs import logging_to
from mmsearch.tracking.ledger.mlflow_runs import MLflowLedger
from mmsearch.tracking.ledger.record import merged
from mmsearch.tracking.ledger.user_file import UserLedger
from mmsearch.tracking.mlflow.client import first_line

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mmsearch.search.study.workspace import Workspace
    from mmsearch.tracking.journal.journal import Journal
    from mmsearch.tracking.journal.records import TrialRecord
    from mmsearch.tracking.view import View

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Synced:
    """What `sync_study` did."""

    n_sent: int
    """Trials that were sent to MLflow or the Optuna storage."""
    mended: tuple[str, ...]
    """What people had changed in MLflow and was put right, a line each."""


def sync_study(
    workspace: Workspace, journal: Journal, storage: str | None, uri: str | None
) -> Synced:
    """Add what the Optuna storage and MLflow lack: trials, and looks at the test split.

    A database that was given is stored with the study once it has answered.

    Raises:
        InputError: both are the same database.
        RefusedError: another process searches the study and fills both itself.
        MMSearchError: MLflow or the Optuna storage cannot be reached.
        JournalError: some trials cannot be shown; all others were.
    """
    from mmsearch.search.optimizer.claims import optuna_looks  # noqa: PLC0415 (Optuna is slow)

    file = StudyFile.require(journal)
    split = file.split_fingerprint
    url = storage_url(workspace, storage, file.storage, file.id)
    check_apart(url, tracking_uri(workspace, uri, file.tracking_uri, file.id))
    with own(journal), logging_to(journal.folder / "logs", url, uri or ""):
        mended: list[str] = []
        later = sync_later(journal, storage, uri)
        searched, confirmed = _Part(journal), _Part(confirmations(journal))
        extended = _Part(extensions(journal))
        away: MMSearchError | None = None
        try:
            _fill_optuna(workspace, searched, file, url, later)
        except MMSearchError as error:
            away = error  # MLflow is filled anyway
        for part in (searched, confirmed, *([extended] if extended.journal.numbers() else [])):
            tracker = open_tracker(workspace, part.journal, uri)
            with mlflow_at(tracker.uri, later):
                part.send(tracker)
                tracker.delete_doubles()
            mended += tracker.mended
        with mlflow_at(tracker.uri, later):
            looks = merged(
                [UserLedger(ledger_folder()).read(split), MLflowLedger(tracker).read(split)]
            )
        if away is None:
            with optuna_looks(url, later) as central:
                looks = merged([central.read(split), looks])
                central.restore(journal.name, looks)
        with mlflow_at(tracker.uri, later):
            show_looks(tracker, journal, file, looks)
            trials = list(searched.records.values())
            tracker.show_study(summarise(journal, file, looks, trials=trials))
        if uri is not None:
            keep_places(journal, tracking_uri=uri)
        if away is not None:
            raise away
        if storage is not None:
            keep_places(journal, storage=storage)
        sent = searched.sent | confirmed.sent | extended.sent
        if failed := {**searched.failed, **confirmed.failed, **extended.failed}:
            name, why = next(iter(failed.items()))
            reason = str(why) if isinstance(why, MMSearchError) else first_line(why)
            raise JournalError(
                f"{counted(len(sent), 'trial was', 'trials were')} sent, and {len(failed)} could "
                f"not be shown, the first of them {name}: {reason}"
            )
        return Synced(n_sent=len(sent), mended=tuple(mended))


def sync_optuna(workspace: Workspace, journal: Journal) -> None:
    """Bring a study's own Optuna storage up to date, without MLflow.

    Raises:
        RefusedError: another process searches the study and fills both itself.
        MMSearchError: the storage cannot be reached.
    """
    file = StudyFile.require(journal)
    url = storage_url(workspace, None, file.storage, file.id)
    with own(journal), logging_to(journal.folder / "logs", url):
        _fill_optuna(workspace, _Part(journal), file, url, sync_later(journal))


def _fill_optuna(
    workspace: Workspace, searched: _Part, file: StudyFile, url: str, later: str
) -> None:
    """Add what an Optuna storage lacks of a study."""
    from mmsearch.search.optimizer.optuna_view import OptunaView  # noqa: PLC0415 (Optuna is slow)
    from mmsearch.search.optimizer.storage import telling_errors  # noqa: PLC0415 (likewise)

    journal, creating = searched.journal, partial(workspace.locked, "optuna")
    view = OptunaView(url, journal.name, file.id, file.settings.space, creating)
    with telling_errors(url, later), contextlib.closing(view):
        searched.send(view)
        trials = list(searched.records.values())
        view.show_study(summarise(journal, file, trials=trials))


class _Part:
    """The trials of one journal of a study, and which of them were sent."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.sent: set[str] = set()
        self.failed: dict[str, Exception] = {}
        """Errors of the trials that cannot be shown, by trial name."""
        records, self._damaged = {}, set()
        for number in journal.numbers():
            try:
                records[number] = journal.read(number)
            except JournalError as error:
                self._damaged.add(number)
                self.failed[f"{journal.kind} {number}"] = error
        self.records: Mapping[int, TrialRecord] = records

    def send(self, view: View) -> None:
        """Send the trials that a view lacks; one that fails does not stop the others."""
        view.open()
        for number in view.lacking([*self.records.values()], self._damaged):
            record = self.records[number]
            try:
                view.show_trial(record, self.journal, is_idle=True)
                self.sent.add(record.name)
            except Exception as error:
                _logger.info("%s could not be sent", record.name, exc_info=True)
                view.open()  # raises if the view is away, which is not this trial's fault
                self.failed[record.name] = error
