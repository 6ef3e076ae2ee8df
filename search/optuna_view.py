"""A study in an Optuna storage: a view of the journal, for Optuna's own tools."""

from __future__ import annotations

import contextlib
import math
from typing import TYPE_CHECKING, Any

import optuna
from optuna.trial import TrialState, create_trial

from mmsearch.errors import RefusedError
from mmsearch.search.storage import open_storage
from mmsearch.search.study import ENQUEUED, REASON, distributions, frozen_trial

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from contextlib import AbstractContextManager

    from optuna.trial import FrozenTrial

    from mmsearch.search.space import Space
    from mmsearch.tracking.journal import Journal, TrialRecord
    from mmsearch.tracking.rendering import StudySummary

STUDY_ID = "mmsearch.id"
"""User attribute of a study: the id that its workspace knows it by."""
_FIXED = "fixed_params"
"""System attribute in which Optuna keeps an enqueued configuration."""
_DIRECTION = optuna.study.StudyDirection.MINIMIZE
_WAIT_S = 10.0
"""Seconds for which a locked SQLite file is waited for."""


class OptunaView:
    """Keeps a study of an Optuna storage in step with the journal. Used by one thread.

    A trial has the same number in both. Nothing is read back but what somebody enqueued there:
    where the storage holds a trial otherwise than the journal, the study is written anew.
    """

    title = "Optuna's storage"

    def __init__(
        self,
        url: str,
        name: str,
        study_id: str,
        space: Space,
        creating: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext,
    ) -> None:
        """Prepare it.

        Args:
            url: of the storage.
            name: of the study, in Optuna as in the workspace.
            study_id: what the workspace knows the study by.
            space: what is searched.
            creating: held while the storage's tables are created.
        """
        self.uri = url
        self._name = name
        self._id = study_id
        self._distributions = distributions(space)
        self._searched = {n for n, dimension in space.dimensions.items() if not dimension.is_fixed}
        self._creating = creating
        self._storage: optuna.storages.RDBStorage | None = None
        self._study = 0
        self._n_rows = 0
        self._sent: dict[int, tuple[int, set[int]]] = {}
        """Storage id and steps sent of each trial that is RUNNING there."""
        self._closed: set[int] = set()
        self.enqueued: Sequence[Mapping[str, Any]] = ()
        """Configurations that somebody enqueued and no trial was begun with, after `lacking`."""

    def open(self) -> None:
        """Connect, and find the study or create it.

        Raises:
            RefusedError: the storage has a study of this name that is not this one.
            InputError: the URL is not that of an Optuna storage.
            MMSearchError: the storage cannot be opened.
        """
        self.close()
        with self._creating():
            self._storage = open_storage(self.uri, wait_s=_WAIT_S)
            self._study = self._find_study(self._storage)
        self._n_rows = self._storage.get_n_trials(self._study)
        self._sent.clear()
        self._closed.clear()

    def lacking(self, records: Iterable[TrialRecord]) -> list[int]:
        """Return the numbers of the trials that the storage lacks or holds in part."""
        records = list(records)
        rows = self._open.get_all_trials(self._study, deepcopy=False)
        known = {record.number for record in records}
        end = max(known, default=-1) + 1
        is_odd = any(row.state != TrialState.WAITING for row in rows[end:]) or any(
            self._differs(rows[record.number], record)
            for record in records
            if record.number < len(rows)
        )
        waiting = [r for r in rows if r.state == TrialState.WAITING and r.number not in known]
        if is_odd:
            self._write_anew(records, waiting)
        self.enqueued = [dict(row.system_attrs.get(_FIXED, {})) for row in waiting]
        if is_odd:
            return []
        self._closed = {r.number for r in rows if r.state.is_finished() and r.number in known}
        return [r.number for r in records if r.number not in self._closed]

    def show_running(self) -> None:
        """Do nothing: Optuna's studies have no state."""

    def show_trial(self, record: TrialRecord, journal: Journal) -> None:
        """Bring a trial up to its record."""
        number = record.number
        while self._n_rows < number:
            self._fill_gap(journal)
        if number in self._closed or (number == self._n_rows and self._add(record)):
            return
        storage = self._open
        if number not in self._sent and not self._take_row(record):
            self._write_anew(journal.records(), self._waiting(end=number))
            return
        trial_id, steps = self._sent[number]
        for segment in record.curve:
            if segment.step not in steps:
                storage.set_trial_intermediate_value(trial_id, segment.step, segment.dev_loss)
                steps.add(segment.step)
        if record.outcome is None:
            return
        trial = frozen_trial(record, self._distributions)
        for key, value in trial.user_attrs.items():
            storage.set_trial_user_attr(trial_id, key, value)
        storage.set_trial_state_values(trial_id, trial.state, trial.values)
        del self._sent[number]
        self._closed.add(number)

    def show_interrupted(self, record: TrialRecord) -> None:
        """Set a trial that waits for the next command to WAITING."""
        sent = self._sent.pop(record.number, None)
        if sent is not None:
            self._open.set_trial_state_values(sent[0], TrialState.WAITING)

    def show_study(self, summary: StudySummary) -> None:
        """Do nothing: the trials say all."""

    def close(self) -> None:
        """Disconnect; a SQLite storage is whole in its one file then."""
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
        if study.user_attrs.get(STUDY_ID) != self._id:
            # One without trials may be what a killed process of ours left.
            is_free = not study.get_trials(deepcopy=False) and study.directions == [_DIRECTION]
            if not is_free:
                whose = (
                    "of another workspace"
                    if STUDY_ID in study.user_attrs
                    else "not made by mmsearch"
                )
                raise RefusedError(
                    f"the Optuna storage has a study {self._name!r} {whose}; name another with "
                    "--study, or the workspace that it belongs to with --workspace"
                )
            study.set_user_attr(STUDY_ID, self._id)
        return storage.get_study_id_from_name(self._name)

    def _differs(self, row: FrozenTrial, record: TrialRecord) -> bool:
        """Return whether a row cannot become the record by what is yet to be sent."""
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

    def _add(self, record: TrialRecord) -> bool:
        """Add a trial under the next number; False where somebody has added one of that number."""
        storage = self._open
        with contextlib.suppress(KeyError):
            storage.get_trial_id_from_study_id_trial_number(self._study, record.number)
            self._n_rows += 1
            return False
        self._create(frozen_trial(record, self._distributions))
        return True

    def _create(self, trial: FrozenTrial) -> None:
        storage, number = self._open, trial.number
        trial_id = storage.create_new_trial(self._study, template_trial=trial)
        if storage.get_trial_number_from_id(trial_id) != number:
            # Somebody has enqueued one at the same moment. The next `lacking` sees it.
            storage.set_trial_state_values(trial_id, TrialState.FAIL)
            raise RuntimeError(f"trial {number} was added to Optuna's storage by another program")
        self._n_rows += 1
        if trial.state.is_finished():
            self._closed.add(number)
        else:
            self._sent[number] = trial_id, set(trial.intermediate_values)

    def _fill_gap(self, journal: Journal) -> None:
        """Add the trial before, or a failed one in its place where the journal has none."""
        number = self._n_rows
        if journal.has_begun(number):
            self._add(journal.read(number))
            return
        self._add_lost()

    def _add_lost(self) -> None:
        lost = create_trial(state=TrialState.FAIL, user_attrs={REASON: "its files are missing"})
        lost.number = self._n_rows
        self._create(lost)

    def _take_row(self, record: TrialRecord) -> bool:
        """Make the row of a trial's number its own; False where it is another's."""
        storage = self._open
        trial_id = storage.get_trial_id_from_study_id_trial_number(self._study, record.number)
        row = storage.get_trial(trial_id)
        if row.state.is_finished() or self._differs(row, record):
            return False
        if row.state == TrialState.WAITING:
            fixed = row.system_attrs.get(_FIXED)
            if fixed is not None and fixed != record.facts.get(ENQUEUED):
                # Enqueued while the search went on: its turn comes later, under another number.
                self._enqueue(row)
            storage.set_trial_state_values(trial_id, TrialState.RUNNING)
        wanted = frozen_trial(record, self._distributions)
        for name, distribution in self._distributions.items():
            if name not in row.params:
                value = distribution.to_internal_repr(wanted.params[name])
                storage.set_trial_param(trial_id, name, value, distribution)
        same = {
            s
            for s, loss in wanted.intermediate_values.items()
            if s in row.intermediate_values and _equal(loss, row.intermediate_values[s])
        }
        self._sent[record.number] = trial_id, same
        return True

    def _waiting(self, end: int) -> list[FrozenTrial]:
        rows = self._open.get_all_trials(self._study, deepcopy=False)
        return [row for row in rows[end:] if row.state == TrialState.WAITING]

    def _enqueue(self, row: FrozenTrial) -> None:
        again = create_trial(
            state=TrialState.WAITING,
            user_attrs=row.user_attrs,
            system_attrs={_FIXED: row.system_attrs.get(_FIXED, {})},
        )
        self._open.create_new_trial(self._study, template_trial=again)

    def _write_anew(self, records: Iterable[TrialRecord], waiting: Iterable[FrozenTrial]) -> None:
        """Replace the study by what the journal says, and keep what people added to it."""
        storage = self._open
        user_attrs = storage.get_study_user_attrs(self._study)
        system_attrs = storage.get_study_system_attrs(self._study)
        storage.delete_study(self._study)
        self._study = storage.create_new_study([_DIRECTION], self._name)
        for key, value in user_attrs.items():
            storage.set_study_user_attr(self._study, key, value)
        for key, value in system_attrs.items():
            storage.set_study_system_attr(self._study, key, value)
        self._n_rows = 0
        self._sent.clear()
        self._closed.clear()
        for record in records:
            while self._n_rows < record.number:
                self._add_lost()
            self._create(frozen_trial(record, self._distributions))
        for row in waiting:
            self._enqueue(row)


def _equal(one: Any, other: Any) -> bool:
    """Compare two values; a database may round a number in its last digits."""
    if isinstance(one, int | float) and isinstance(other, int | float):
        return math.isclose(one, other, rel_tol=1e-12)
    return bool(one == other)
