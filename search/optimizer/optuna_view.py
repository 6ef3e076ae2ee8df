"""The study in an Optuna storage: a view of the journal for Optuna's own tools."""

from __future__ import annotations

import contextlib
import logging
import math
from typing import TYPE_CHECKING, Any, NoReturn

import optuna
from optuna.trial import TrialState, create_trial

from mmsearch.errors import RefusedError
from mmsearch.search.optimizer.optuna_study import ENQUEUED, REASON, frozen_trial
from mmsearch.search.optimizer.samplers import distributions
from mmsearch.search.optimizer.storage import open_storage, use_write_ahead_log
from mmsearch.tracking.journal.files import JournalError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
    from contextlib import AbstractContextManager

    from optuna.trial import FrozenTrial

    from mmsearch.search.study.space import Space
    from mmsearch.tracking.journal.journal import Journal
    from mmsearch.tracking.journal.records import TrialRecord
    from mmsearch.tracking.study_summary import StudySummary

STUDY_ID = "mmsearch.id"
"""User attribute of a study: its id in the workspace."""
REFILLED = "mmsearch.refilled"
"""User attribute of a study: whether it was created after its first trials, so that looks at the
test split may be missing in its storage until `mmsearch sync` has added them."""
_EXCLUDED = "mmsearch.excluded"
"""User attribute of a study: the trials that are excluded from the choice of a model, and why."""
_PARENTS = "mmsearch.parent_trials"
"""User attribute of a study: the trial that each extension goes on from, by its number."""
_KEPT = "mmsearch/enqueued/"
_IS_WHOLE = "mmsearch.is_whole"
_NOTES = "mmsearch.notes"
_FIXED = "fixed_params"
"""System attribute in which Optuna stores an enqueued configuration."""
_DASHBOARD = "dashboard:"
"""Beginning of the system attributes of optuna-dashboard; a trial's id may follow."""
_DIRECTION = optuna.study.StudyDirection.MINIMIZE
_WAIT_S = 10.0
"""Seconds to wait for a locked SQLite file."""

_logger = logging.getLogger(__name__)


class OptunaView:
    """Keeps the study in an Optuna storage up to date with the journal; used by one thread.

    A trial has the same number in both. Only enqueued trials are read back. If a trial in the
    storage contradicts the journal, the study there is rebuilt.
    """

    title = "Optuna's storage"

    def __init__(
        self,
        uri: str,
        name: str,
        study_id: str,
        space: Space,
        creating: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext,
    ) -> None:
        """Create the view; connects to nothing yet.

        Args:
            uri: the storage's URL.
            name: the study's name, in Optuna as in the workspace.
            study_id: the study's id in the workspace.
            space: the search space.
            creating: context manager to hold while the storage's tables are created.
        """
        self.uri = uri
        self._name = name
        self._id = study_id
        self._distributions = distributions(space)
        self._searched = {n for n, dimension in space.dimensions.items() if not dimension.is_fixed}
        self._creating = creating
        self._storage: optuna.storages.RDBStorage | None = None
        self._study = 0
        self._n_rows = 0
        self._sent: dict[int, tuple[int, set[int]]] = {}
        """Storage id and sent steps of each trial that is RUNNING in the storage."""
        self._closed: set[int] = set()
        self._needs_rebuild = False
        """Whether the study must be rebuilt before anything else."""
        self.enqueued: Sequence[Mapping[str, Any]] = ()
        """Enqueued configurations that no trial has started from, known after `lacking`."""

    def open(self) -> None:
        """Connect, and find or create the study.

        Raises:
            RefusedError: the storage has another study of this name.
            InputError: the URL is not that of an Optuna storage.
            MMSearchError: the storage cannot be opened.
        """
        self.close()
        with self._creating():
            self._storage = open_storage(self.uri, wait_s=_WAIT_S)
            self._study = self._find_study(self._storage)
            # Not before: a file that is refused stays as it is.
            use_write_ahead_log(self._storage)
        self._n_rows = self._storage.get_n_trials(self._study)
        self._sent.clear()
        self._closed.clear()

    def lacking(
        self, records: Sequence[TrialRecord], unreadable: Collection[int] = ()
    ) -> list[int]:
        """Return the numbers of the trials that the storage lacks or has only in part.

        Args:
            records: the trials of the journal.
            unreadable: numbers of trials whose files are damaged; the storage keeps what it has.
        """
        known = {record.number: record for record in records}
        rows = self._open.get_all_trials(self._study, deepcopy=False)
        end = max((*known, *unreadable), default=-1) + 1
        if not end:
            self._open.set_study_user_attr(self._study, REFILLED, False)  # noqa: FBT003 (Optuna's)
        self._needs_rebuild = any(
            self._contradicts_journal(row, known, unreadable, end) for row in rows
        )
        self._needs_rebuild |= self._find_kept() is not None
        self.enqueued = [dict(row.system_attrs[_FIXED]) for row in self._waiting(rows, known)]
        self._closed = {r.number for r in rows if r.state.is_finished() and r.number in known}
        if self._needs_rebuild:
            return list(known)
        idle = {
            row.number
            for row in rows
            if row.state == TrialState.WAITING
            and row.number in known
            and len(row.intermediate_values) == len(known[row.number].curve)
        }
        return [n for n, r in known.items() if n not in (self._closed if r.outcome else idle)]

    def show_running(self) -> None:
        """Write the study's id again, since Optuna's studies have no state."""
        self._open.set_study_user_attr(self._study, STUDY_ID, self._id)

    def show_trial(self, record: TrialRecord, journal: Journal, *, is_idle: bool = False) -> None:
        """Bring a trial up to date.

        Args:
            record: the trial.
            journal: the journal, for the other trials.
            is_idle: whether no process trains it, so that an unfinished trial is WAITING.
        """
        if self._needs_rebuild:
            self._rebuild(journal)
        number = record.number
        while self._n_rows < number:
            self._fill_gap(journal)
        if number in self._closed or (number == self._n_rows and self._add(record, is_idle)):
            return
        if number not in self._sent and not self._take_row(record, is_idle):
            self._rebuild(journal)
            self.show_trial(record, journal, is_idle=is_idle)
        if number in self._sent:
            self._update(record, is_idle)

    def _update(self, record: TrialRecord, is_idle: bool) -> None:  # noqa: FBT001 (passed on)
        """Send what a trial in the storage lacks."""
        storage, number = self._open, record.number
        trial_id, steps = self._sent[number]
        for segment in record.curve:
            if segment.step not in steps:
                storage.set_trial_intermediate_value(trial_id, segment.step, segment.dev_loss)
                steps.add(segment.step)
        if record.outcome is not None:
            trial = frozen_trial(record, self._distributions)
            for key, value in trial.user_attrs.items():
                storage.set_trial_user_attr(trial_id, key, value)
            storage.set_trial_state_values(trial_id, trial.state, trial.values)
            self._closed.add(number)
        elif is_idle:
            storage.set_trial_state_values(trial_id, TrialState.WAITING)
        if record.outcome is not None or is_idle:
            del self._sent[number]

    def show_study(self, summary: StudySummary) -> None:
        """Write which trials are excluded or extended: finished ones take no more attributes."""
        storage, study = self._open, self._study
        attrs = storage.get_study_user_attrs(study)
        for key, value in (
            (_EXCLUDED, {f"{t.number}": t.excluded for t in summary.trials if t.excluded}),
            (_PARENTS, {f"{number}": parent for number, parent in summary.parents.items()}),
        ):
            if attrs.get(key, {}) != value:
                storage.set_study_user_attr(study, key, value)

    def close(self) -> None:
        """Disconnect; SQLite then merges its write-ahead log into the database file."""
        if self._storage is not None:
            self._storage.remove_session()
            self._storage.engine.dispose()
            self._storage = None

    @property
    def _open(self) -> optuna.storages.RDBStorage:
        assert self._storage is not None  # noqa: S101 (the caller's condition, for the type checker)
        return self._storage

    def _find_study(self, storage: optuna.storages.RDBStorage) -> int:
        study = optuna.create_study(
            study_name=self._name, storage=storage, direction="minimize", load_if_exists=True
        )
        if STUDY_ID not in study.user_attrs:
            # A process may have been killed between creating the study and setting its id.
            if study.get_trials(deepcopy=False) or study.directions != [_DIRECTION]:
                self._refuse("not made by mmsearch")
            # Until `lacking` has found that no look at a test split can be missing.
            study.set_user_attr(REFILLED, True)  # noqa: FBT003 (Optuna's)
            study.set_user_attr(STUDY_ID, self._id)
        if study.user_attrs[STUDY_ID] != self._id:
            self._refuse("of another workspace")
        return storage.get_study_id_from_name(self._name)

    def _refuse(self, whose: str) -> NoReturn:
        raise RefusedError(
            f"the Optuna storage has a study {self._name!r} {whose}; choose another name with "
            "--study, or the workspace that it belongs to with --workspace"
        )

    def _contradicts_journal(
        self,
        row: FrozenTrial,
        known: Mapping[int, TrialRecord],
        unreadable: Collection[int],
        end: int,
    ) -> bool:
        """Return whether a trial in the storage contradicts the journal."""
        if row.number in known:
            return self._contradicts(row, known[row.number])
        if row.number in unreadable:
            return False
        is_enqueued = row.state == TrialState.WAITING and _FIXED in row.system_attrs
        # A finished trial below the end may be one whose files were moved away.
        return not is_enqueued and not (row.number < end and row.state.is_finished())

    def _contradicts(self, row: FrozenTrial, record: TrialRecord) -> bool:
        """Return whether a trial in the storage contradicts its record."""
        wanted = frozen_trial(record, self._distributions)
        if any(not _equal(value, wanted.params.get(n)) for n, value in row.params.items()):
            return True
        if not row.state.is_finished():
            return False
        return (
            row.state != wanted.state
            or not self._searched <= set(row.params)
            or not _equal(row.value, wanted.value)
            or row.intermediate_values.keys() != wanted.intermediate_values.keys()
            or not all(
                _equal(loss, wanted.intermediate_values[step])
                for step, loss in row.intermediate_values.items()
            )
        )

    def _waiting(
        self, rows: Iterable[FrozenTrial], known: Mapping[int, TrialRecord]
    ) -> list[FrozenTrial]:
        """Return the enqueued trials that no trial of the journal has started from."""
        found = [
            row
            for row in rows
            if row.state == TrialState.WAITING
            and _FIXED in row.system_attrs
            and not (
                row.number in known
                and known[row.number].facts.get(ENQUEUED) == row.system_attrs[_FIXED]
            )
        ]
        kept = self._find_kept()
        if kept is None:
            return found
        first = self._open.get_all_trials(kept, deepcopy=False)
        fixed = [row.system_attrs[_FIXED] for row in first]
        return [*first, *(row for row in found if row.system_attrs[_FIXED] not in fixed)]

    def _add(self, record: TrialRecord, is_idle: bool) -> bool:  # noqa: FBT001 (as it is passed on)
        """Add a trial under the next number; return False if that number is taken."""
        with contextlib.suppress(KeyError):
            self._row(record.number)
            self._n_rows += 1
            return False
        trial = frozen_trial(record, self._distributions)
        if is_idle and record.outcome is None:
            trial.state = TrialState.WAITING
        self._create(trial)
        return True

    def _create(self, trial: FrozenTrial) -> None:
        storage, number = self._open, trial.number
        trial_id = storage.create_new_trial(self._study, template_trial=trial)
        if storage.get_trial_number_from_id(trial_id) != number:
            # Another program enqueued a trial at the same moment; the next `lacking` sees it.
            storage.set_trial_state_values(trial_id, TrialState.FAIL)
            raise RuntimeError(f"another program added trial {number} to Optuna's storage")
        self._n_rows += 1
        if trial.state.is_finished():
            self._closed.add(number)
        elif trial.state == TrialState.RUNNING:
            self._sent[number] = trial_id, set(trial.intermediate_values)

    def _fill_gap(self, journal: Journal, before: FrozenTrial | None = None) -> None:
        """Add the next trial of the journal, or a failed one in place of a damaged or missing one.

        Args:
            journal: the journal.
            before: the trial of the same number in the storage before a rebuild.
        """
        number = self._n_rows
        try:
            if journal.has_begun(number):
                record = journal.read(number)
                trial = frozen_trial(record, self._distributions)
                if before is not None:
                    trial.user_attrs = {**before.user_attrs, **trial.user_attrs}
                if record.outcome is None:
                    trial.state = TrialState.WAITING  # until `show_trial` brings it up to date
                self._create(trial)
                return
        except JournalError as error:
            _logger.info("trial %d cannot be read", number, exc_info=error)
            if before is not None and before.state.is_finished():
                self._create(before)
                return
        lost = create_trial(state=TrialState.FAIL, user_attrs={REASON: "its files are missing"})
        lost.number = number
        self._create(lost)

    def _take_row(self, record: TrialRecord, is_idle: bool) -> bool:  # noqa: FBT001 (passed on)
        """Take over the trial of this number in the storage; return False if it contradicts."""
        storage, number = self._open, record.number
        trial_id = self._row(number)
        row = storage.get_trial(trial_id)
        if self._contradicts(row, record):
            return False
        if row.state.is_finished():
            self._closed.add(number)
            return True
        if row.state == TrialState.WAITING:
            fixed = row.system_attrs.get(_FIXED)
            if fixed is not None and fixed != record.facts.get(ENQUEUED):
                # Enqueued during the search, so that it gets its turn later, under another number.
                self._enqueue_again(row, record)
            if not is_idle:
                storage.set_trial_state_values(trial_id, TrialState.RUNNING)
        wanted = frozen_trial(record, self._distributions)
        for name, distribution in self._distributions.items():
            if name not in row.params:
                value = distribution.to_internal_repr(wanted.params[name])
                storage.set_trial_param(trial_id, name, value, distribution)
        same = {
            step
            for step, loss in wanted.intermediate_values.items()
            if step in row.intermediate_values and _equal(loss, row.intermediate_values[step])
        }
        self._sent[number] = trial_id, same
        return True

    def _enqueue_again(self, row: FrozenTrial, record: TrialRecord) -> None:
        """Enqueue a configuration again under a later number, unless a killed process has done so.

        If the record started from the configuration of a later trial, the two are swapped.
        """
        storage = self._open
        rows = storage.get_all_trials(self._study, deepcopy=False)[row.number + 1 :]
        later = [r for r in rows if r.state == TrialState.WAITING and _FIXED in r.system_attrs]
        if any(r.system_attrs[_FIXED] == row.system_attrs[_FIXED] for r in later):
            return
        for other in later:
            if other.system_attrs[_FIXED] == record.facts.get(ENQUEUED):
                other_id = self._row(other.number)
                storage.set_trial_system_attr(other_id, _FIXED, row.system_attrs[_FIXED])
                for key, value in row.user_attrs.items():
                    storage.set_trial_user_attr(other_id, key, value)
                return
        storage.create_new_trial(self._study, template_trial=_enqueued(row))

    def _find_kept(self) -> int | None:
        """Return the id of the study that keeps enqueued trials during a rebuild; None without."""
        try:
            kept = self._open.get_study_id_from_name(_KEPT + self._id)
        except KeyError:
            return None
        if self._open.get_study_user_attrs(kept).get(_IS_WHOLE):
            return kept
        self._open.delete_study(
            kept
        )  # incomplete, of a killed process; the original is still there
        return None

    def _row(self, number: int) -> int:
        """Return the storage's id of a trial."""
        return self._open.get_trial_id_from_study_id_trial_number(self._study, number)

    def _notes(self, numbers: Iterable[int]) -> list[tuple[int | None, str, Any]]:
        """Return what optuna-dashboard stored with the study, such as notes on its trials.

        Returns:
            For each attribute the number of its trial, its name without the trial's id, and its
            value; for one of the study None and the whole name.
        """
        by_id = {f"{self._row(number)}": number for number in numbers}
        found: list[tuple[int | None, str, Any]] = []
        for key, value in self._open.get_study_system_attrs(self._study).items():
            trial_id, _, name = key.removeprefix(_DASHBOARD).partition(":")
            is_of_trial = key.startswith(_DASHBOARD) and trial_id in by_id
            found.append((by_id[trial_id], name, value) if is_of_trial else (None, key, value))
        return found

    def _rebuild(self, journal: Journal) -> None:
        """Rebuild the study from the journal.

        Keeps the user attributes that people added to the study and its trials, their notes in
        optuna-dashboard, and what they enqueued; a separate study holds the latter two meanwhile,
        in case the process is killed.
        """
        storage = self._open
        rows = storage.get_all_trials(self._study, deepcopy=False)
        known = {}
        for number in journal.numbers():
            with contextlib.suppress(JournalError):
                known[number] = journal.read(number)
        waiting = self._waiting(rows, known)
        kept = self._find_kept()
        if kept is None:
            kept = storage.create_new_study([_DIRECTION], _KEPT + self._id)
            for row in waiting:
                storage.create_new_trial(kept, template_trial=_enqueued(row))
            storage.set_study_user_attr(kept, _NOTES, self._notes(row.number for row in rows))
            storage.set_study_user_attr(kept, _IS_WHOLE, True)  # noqa: FBT003 (Optuna's)
        attrs = storage.get_study_user_attrs(self._study) | {STUDY_ID: self._id}
        storage.delete_study(self._study)
        self._study = storage.create_new_study([_DIRECTION], self._name)
        for key, value in attrs.items():
            storage.set_study_user_attr(self._study, key, value)
        self._n_rows = 0
        self._sent.clear()
        self._closed.clear()
        while self._n_rows <= max(journal.numbers(), default=-1):
            before = rows[self._n_rows] if self._n_rows < len(rows) else None
            self._fill_gap(journal, before)
        for row in waiting:
            storage.create_new_trial(self._study, template_trial=_enqueued(row))
        for place, name, value in storage.get_study_user_attrs(kept).get(_NOTES, ()):
            with contextlib.suppress(KeyError):  # of a trial that the journal does not have
                key = name if place is None else f"{_DASHBOARD}{self._row(place)}:{name}"
                storage.set_study_system_attr(self._study, key, value)
        storage.delete_study(kept)
        self._needs_rebuild = False


def delete_view(url: str, name: str, study_id: str) -> None:
    """Delete a study from an Optuna storage; does nothing where the storage does not have it.

    Args:
        url: of the storage.
        name: name of the study.
        study_id: its id in the workspace; a study of the same name with another id stays.
    """
    storage = open_storage(url)
    try:
        for kept in (_KEPT + study_id, name):
            with contextlib.suppress(KeyError):
                study = storage.get_study_id_from_name(kept)
                is_own = storage.get_study_user_attrs(study).get(STUDY_ID) == study_id
                if is_own or kept != name:
                    storage.delete_study(study)
    finally:
        storage.remove_session()
        storage.engine.dispose()


def _enqueued(row: FrozenTrial) -> FrozenTrial:
    """Return a WAITING trial with the same enqueued configuration."""
    return create_trial(
        state=TrialState.WAITING,
        user_attrs=row.user_attrs,
        system_attrs={_FIXED: row.system_attrs[_FIXED]},
    )


def _equal(one: Any, other: Any) -> bool:
    """Return whether two values are equal up to a database's rounding of the last digits."""
    if isinstance(one, int | float) and isinstance(other, int | float):
        return math.isclose(one, other, rel_tol=1e-12)
    return bool(one == other)
