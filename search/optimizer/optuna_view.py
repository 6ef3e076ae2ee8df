"""A study in an Optuna storage: a view of the journal, for Optuna's own tools."""

from __future__ import annotations

import contextlib
import logging
import math
from typing import TYPE_CHECKING, Any, NoReturn

import optuna
from optuna.trial import TrialState, create_trial

from mmsearch.errors import RefusedError
from mmsearch.search.optimizer.optuna_study import ENQUEUED, REASON, distributions, frozen_trial
from mmsearch.search.optimizer.storage import open_storage
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
"""User attribute of a study: the id that its workspace knows it by."""
REFILLED = "mmsearch.refilled"
"""User attribute of a study: whether it was made where the workspace had trials already, so that
looks at the test split may be missing beside it until `mmsearch sync` has brought them."""
_KEPT = "mmsearch/enqueued/"
_IS_WHOLE = "mmsearch.is_whole"
_FIXED = "fixed_params"
"""System attribute in which Optuna keeps an enqueued configuration."""
_DIRECTION = optuna.study.StudyDirection.MINIMIZE
_WAIT_S = 10.0
"""Seconds for which a locked SQLite file is waited for."""

logger = logging.getLogger(__name__)


class OptunaView:
    """Keeps a study of an Optuna storage in step with the journal. Used by one thread.

    A trial has the same number in both. Nothing is read back but what somebody enqueued there:
    where the storage holds a trial otherwise than the journal, the study is written anew.
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
        """Prepare it.

        Args:
            uri: the storage's URL.
            name: the study's name, in Optuna as in the workspace.
            study_id: what the workspace knows the study by.
            space: what is searched.
            creating: held while the storage's tables are created.
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
        """Storage id and steps sent of each trial that is RUNNING there."""
        self._closed: set[int] = set()
        self._is_odd = False
        """Whether the study is to be written anew before anything else."""
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

    def lacking(
        self, records: Iterable[TrialRecord], unreadable: Collection[int] = ()
    ) -> list[int]:
        """Return the numbers of the trials that the storage lacks or holds in part.

        Args:
            records: the journal's trials.
            unreadable: numbers of those whose files are damaged; they stay as they are.
        """
        known = {record.number: record for record in records}
        rows = self._open.get_all_trials(self._study, deepcopy=False)
        end = max((*known, *unreadable), default=-1) + 1
        if not end:
            self._open.set_study_user_attr(self._study, REFILLED, False)  # noqa: FBT003 (Optuna's)
        self._is_odd = any(self._is_odd_row(row, known, unreadable, end) for row in rows)
        self._is_odd |= self._find_kept() is not None
        self.enqueued = [dict(row.system_attrs[_FIXED]) for row in self._waiting(rows, known)]
        self._closed = {r.number for r in rows if r.state.is_finished() and r.number in known}
        if self._is_odd:
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
        """Do nothing: Optuna's studies have no state."""

    def show_trial(self, record: TrialRecord, journal: Journal, *, is_idle: bool = False) -> None:
        """Bring a trial up to its record.

        Args:
            record: the trial.
            journal: where the others are.
            is_idle: whether nobody trains it, so that it is WAITING where it has not ended.
        """
        if self._is_odd:
            self._write_anew(journal)
        number = record.number
        while self._n_rows < number:
            self._fill_gap(journal)
        if number in self._closed or (number == self._n_rows and self._add(record, is_idle)):
            return
        if number not in self._sent and not self._take_row(record, is_idle):
            self._write_anew(journal)
            self.show_trial(record, journal, is_idle=is_idle)
        if number in self._sent:
            self._update(record, is_idle)

    def _update(self, record: TrialRecord, is_idle: bool) -> None:  # noqa: FBT001 (as it is passed on)
        """Send what a row lacks."""
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
        if STUDY_ID not in study.user_attrs:
            # One without trials may be what a killed process left between the two calls.
            if study.get_trials(deepcopy=False) or study.directions != [_DIRECTION]:
                self._refuse("not made by mmsearch")
            # Until it is known that there is no look at a test split to be missed.
            study.set_user_attr(REFILLED, True)  # noqa: FBT003 (Optuna's)
            study.set_user_attr(STUDY_ID, self._id)
        if study.user_attrs[STUDY_ID] != self._id:
            self._refuse("of another workspace")
        return storage.get_study_id_from_name(self._name)

    def _refuse(self, whose: str) -> NoReturn:
        raise RefusedError(
            f"the Optuna storage has a study {self._name!r} {whose}; name another with --study, "
            "or the workspace that it belongs to with --workspace"
        )

    def _is_odd_row(
        self,
        row: FrozenTrial,
        known: Mapping[int, TrialRecord],
        unreadable: Collection[int],
        end: int,
    ) -> bool:
        """Return whether a row cannot become what the journal says by adding to it."""
        if row.number in known:
            return self._differs(row, known[row.number])
        if row.number in unreadable:
            return False
        is_enqueued = row.state == TrialState.WAITING and _FIXED in row.system_attrs
        # Below the end, an ended trial may be one whose files somebody has moved away.
        return not is_enqueued and not (row.number < end and row.state.is_finished())

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

    def _waiting(
        self, rows: Iterable[FrozenTrial], known: Mapping[int, TrialRecord]
    ) -> list[FrozenTrial]:
        """Return the rows that somebody enqueued and no trial of the journal was begun with."""
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
        """Add a trial under the next number; False where somebody has added one of that number."""
        storage = self._open
        with contextlib.suppress(KeyError):
            storage.get_trial_id_from_study_id_trial_number(self._study, record.number)
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
            # Somebody has enqueued one at the same moment. The next `lacking` sees it.
            storage.set_trial_state_values(trial_id, TrialState.FAIL)
            raise RuntimeError(f"trial {number} was added to Optuna's storage by another program")
        self._n_rows += 1
        if trial.state.is_finished():
            self._closed.add(number)
        elif trial.state == TrialState.RUNNING:
            self._sent[number] = trial_id, set(trial.intermediate_values)

    def _fill_gap(self, journal: Journal, before: FrozenTrial | None = None) -> None:
        """Add the next trial, or something in its place: it must not keep the later ones out.

        Args:
            journal: where it is.
            before: what the storage held under its number.
        """
        number = self._n_rows
        try:
            if journal.has_begun(number):
                record = journal.read(number)
                trial = frozen_trial(record, self._distributions)
                if before is not None:
                    trial.user_attrs = {**before.user_attrs, **trial.user_attrs}
                if record.outcome is None:
                    trial.state = TrialState.WAITING  # until somebody shows it
                self._create(trial)
                return
        except JournalError as error:
            logger.info("trial %d cannot be read", number, exc_info=error)
            if before is not None and before.state.is_finished():
                self._create(before)
                return
        lost = create_trial(state=TrialState.FAIL, user_attrs={REASON: "its files are missing"})
        lost.number = number
        self._create(lost)

    def _take_row(self, record: TrialRecord, is_idle: bool) -> bool:  # noqa: FBT001 (likewise)
        """Make the row of a trial's number its own; False where it is another's."""
        storage, number = self._open, record.number
        trial_id = storage.get_trial_id_from_study_id_trial_number(self._study, number)
        row = storage.get_trial(trial_id)
        if self._differs(row, record):
            return False
        if row.state.is_finished():
            self._closed.add(number)
            return True
        if row.state == TrialState.WAITING:
            fixed = row.system_attrs.get(_FIXED)
            if fixed is not None and fixed != record.facts.get(ENQUEUED):
                # Enqueued while the search went on: its turn comes later, under another number.
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
        """Enqueue a row's configuration elsewhere, unless a killed process has done so.

        Where the record was begun with what a later row has, the two rows change places.
        """
        storage = self._open
        rows = storage.get_all_trials(self._study, deepcopy=False)[row.number + 1 :]
        later = [r for r in rows if r.state == TrialState.WAITING and _FIXED in r.system_attrs]
        if any(r.system_attrs[_FIXED] == row.system_attrs[_FIXED] for r in later):
            return
        for other in later:
            if other.system_attrs[_FIXED] == record.facts.get(ENQUEUED):
                other_id = storage.get_trial_id_from_study_id_trial_number(
                    self._study, other.number
                )
                storage.set_trial_system_attr(other_id, _FIXED, row.system_attrs[_FIXED])
                for key, value in row.user_attrs.items():
                    storage.set_trial_user_attr(other_id, key, value)
                return
        storage.create_new_trial(self._study, template_trial=_enqueued(row))

    def _find_kept(self) -> int | None:
        """Find the study that keeps what is enqueued while the study is written anew."""
        try:
            kept = self._open.get_study_id_from_name(_KEPT + self._id)
        except KeyError:
            return None
        if self._open.get_study_user_attrs(kept).get(_IS_WHOLE):
            return kept
        self._open.delete_study(kept)  # of a killed process; what it was to keep is still there
        return None

    def _write_anew(self, journal: Journal) -> None:
        """Replace the study by what the journal says.

        What people added to the study or its trials as user attributes is kept, and so is what
        they enqueued, in a study of its own meanwhile: a killed process must not lose it.
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
        storage.delete_study(kept)
        self._is_odd = False


def _enqueued(row: FrozenTrial) -> FrozenTrial:
    """Return a trial that waits with the same configuration as another."""
    return create_trial(
        state=TrialState.WAITING,
        user_attrs=row.user_attrs,
        system_attrs={_FIXED: row.system_attrs[_FIXED]},
    )


def _equal(one: Any, other: Any) -> bool:
    """Compare two values; a database may round a number in its last digits."""
    if isinstance(one, int | float) and isinstance(other, int | float):
        return math.isclose(one, other, rel_tol=1e-12)
    return bool(one == other)
