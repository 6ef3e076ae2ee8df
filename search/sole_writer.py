"""An Optuna storage read once, for the one process that writes a study."""

from __future__ import annotations

import copy
from functools import partial
from typing import TYPE_CHECKING, Any

import optuna
from optuna.storages import BaseStorage
from optuna.trial import TrialState

from mmsearch.search.patience import Patience

if TYPE_CHECKING:
    from collections.abc import Container, Mapping, Sequence

    from optuna.distributions import BaseDistribution
    from optuna.study import StudyDirection
    from optuna.study._frozen import FrozenStudy
    from optuna.trial import FrozenTrial


class SoleWriter(BaseStorage):
    """Writes to a storage and answers from memory what it has read or written there.

    Optuna's own cache keeps finished trials, and reads every running one anew for each proposal
    and each decision to prune: with 64 of them, nearly all that a coordinator did. One coordinator
    alone writes a study, so what it remembers is what there is. Trials that another process
    enqueues meanwhile are seen by the next one that opens the study.

    Each change is in the storage before it is in memory. A call is tried again while the storage
    is away; one that had arrived is found there, and is not made twice. For use from one thread.
    """

    def __init__(self, storage: BaseStorage, patience: Patience | None = None) -> None:
        self._storage = optuna.storages.get_storage(storage)
        self._call = (patience or Patience()).call
        self._trials: dict[int, list[FrozenTrial]] = {}
        """Of each study, by number."""
        self._places: dict[int, tuple[int, int]] = {}
        """Study and number by trial id."""

    def get_all_trials(
        self,
        study_id: int,
        deepcopy: bool = True,  # noqa: FBT001, FBT002 (the base class's)
        states: Container[TrialState] | None = None,
    ) -> list[FrozenTrial]:
        """Give the trials by number; without `deepcopy`, not to be changed."""
        if study_id not in self._trials:
            self._read(study_id)
        found = self._trials[study_id]
        trials = [trial for trial in found if states is None or trial.state in states]
        return copy.deepcopy(trials) if deepcopy else trials

    def get_trial(self, trial_id: int) -> FrozenTrial:
        """Give one trial. Optuna's `Trial` writes into the one that it is given."""
        if trial_id not in self._places:
            return self._call(partial(self._storage.get_trial, trial_id))
        study_id, number = self._places[trial_id]
        return _with(self._trials[study_id][number], **{key: {} for key in _MAPPINGS})

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        """Add a trial."""
        n_known = len(self.get_all_trials(study_id, deepcopy=False))
        create = partial(self._storage.create_new_trial, study_id, template_trial)

        def create_unless_it_arrived() -> int:
            fresh = self._storage.get_all_trials(study_id, deepcopy=False)[n_known:]
            ours = (t._trial_id for t in fresh if _is_made_from(t, template_trial))  # noqa: SLF001 (no public way)
            found = next(ours, None)
            return create() if found is None else found

        trial_id = self._call(create, create_unless_it_arrived)
        trial = self._call(partial(self._storage.get_trial, trial_id))
        if trial.number == n_known:
            self._trials[study_id].append(trial)
            self._places[trial_id] = (study_id, trial.number)
        else:  # somebody else has added some
            self._read(study_id)
        return trial_id

    def set_trial_param(
        self,
        trial_id: int,
        param_name: str,
        param_value_internal: float,
        distribution: BaseDistribution,
    ) -> None:
        """Set a hyperparameter."""
        write = self._storage.set_trial_param
        self._call(partial(write, trial_id, param_name, param_value_internal, distribution))
        value = distribution.to_external_repr(param_value_internal)
        self._change(trial_id, params={param_name: value}, distributions={param_name: distribution})

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        """Set the state, and the score; False where another process began the trial."""
        write = partial(self._storage.set_trial_state_values, trial_id, state, values)
        read = partial(self._storage.get_trial, trial_id)
        # Nobody else sets it: where it is set, our call had arrived.
        is_set = self._call(write, lambda: read().state == state or write())
        if trial_id in self._places:  # the storage has set the time as well
            study_id, number = self._places[trial_id]
            self._trials[study_id][number] = self._call(read)
        return is_set

    def set_trial_intermediate_value(
        self, trial_id: int, step: int, intermediate_value: float
    ) -> None:
        """Set a reported value."""
        write = self._storage.set_trial_intermediate_value
        self._call(partial(write, trial_id, step, intermediate_value))
        self._change(trial_id, intermediate_values={step: intermediate_value})

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Set an attribute of the user's."""
        self._call(partial(self._storage.set_trial_user_attr, trial_id, key, value))
        self._change(trial_id, user_attrs={key: value})

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Set an attribute of Optuna's."""
        self._call(partial(self._storage.set_trial_system_attr, trial_id, key, value))
        self._change(trial_id, system_attrs={key: value})

    def _read(self, study_id: int) -> None:
        trials = self._call(partial(self._storage.get_all_trials, study_id, deepcopy=False))
        self._trials[study_id] = trials
        for trial in trials:
            self._places[trial._trial_id] = (study_id, trial.number)  # noqa: SLF001 (no public way)

    def _change(self, trial_id: int, **fields: Mapping[Any, Any]) -> None:
        """Add entries to a trial, in a copy: who was given it before keeps what it got."""
        if trial_id not in self._places:
            return
        study_id, number = self._places[trial_id]
        self._trials[study_id][number] = _with(self._trials[study_id][number], **fields)

    # What is asked for rarely goes through.

    def create_new_study(
        self, directions: Sequence[StudyDirection], study_name: str | None = None
    ) -> int:
        """Add a study."""
        return self._call(partial(self._storage.create_new_study, directions, study_name))

    def delete_study(self, study_id: int) -> None:
        """Delete a study."""
        self._storage.delete_study(study_id)
        for trial in self._trials.pop(study_id, []):
            del self._places[trial._trial_id]  # noqa: SLF001 (no public way)

    def set_study_user_attr(self, study_id: int, key: str, value: Any) -> None:
        """Set an attribute of the user's."""
        self._call(partial(self._storage.set_study_user_attr, study_id, key, value))

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        """Set an attribute of Optuna's."""
        self._call(partial(self._storage.set_study_system_attr, study_id, key, value))

    def get_study_id_from_name(self, study_name: str) -> int:
        """Find a study."""
        return self._call(partial(self._storage.get_study_id_from_name, study_name))

    def get_study_name_from_id(self, study_id: int) -> str:
        """Name a study."""
        return self._call(partial(self._storage.get_study_name_from_id, study_id))

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        """Say what is minimised or maximised."""
        return self._call(partial(self._storage.get_study_directions, study_id))

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        """Give the attributes of the user's."""
        return self._call(partial(self._storage.get_study_user_attrs, study_id))

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        """Give the attributes of Optuna's."""
        return self._call(partial(self._storage.get_study_system_attrs, study_id))

    def get_all_studies(self) -> list[FrozenStudy]:
        """Give all studies."""
        return self._call(self._storage.get_all_studies)

    def remove_session(self) -> None:
        """Close the connection of this thread."""
        self._storage.remove_session()


def _is_made_from(trial: FrozenTrial, template: FrozenTrial | None) -> bool:
    """Whether a new trial may be what was made from a template, or from none."""
    if template is None:
        return trial.state == TrialState.RUNNING and not trial.params
    keys = ("state", "params", "user_attrs", "system_attrs")
    return all(getattr(trial, key) == getattr(template, key) for key in keys)


_MAPPINGS = ("params", "distributions", "intermediate_values", "user_attrs", "system_attrs")


def _with(trial: FrozenTrial, **fields: Mapping[Any, Any]) -> FrozenTrial:
    """Copy a trial and the named mappings of it, with more entries in them."""
    changed = copy.copy(trial)
    for name, entries in fields.items():
        setattr(changed, name, {**getattr(trial, name), **entries})
    return changed
