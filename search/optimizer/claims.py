"""Looks at a test split in an Optuna storage, which decides which claim on a look counts.

Adding a trial to a study is one transaction, which gives it the next number whatever process or
machine it comes from: of all claims on one look, the first counts. The user's own ledger and MLflow
hold copies.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import optuna
from optuna.trial import TrialState, create_trial

from mmsearch.errors import MMSearchError
from mmsearch.search.optimizer.optuna_view import REFILLED, STUDY_ID
from mmsearch.search.optimizer.storage import open_storage, telling_errors
from mmsearch.tracking.ledger.record import Look

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from optuna.trial import FrozenTrial

_CLAIM = "mmsearch.claim"
_RESULT = "mmsearch.result"


@contextlib.contextmanager
def optuna_looks(
    url: str, next_step: str, creating: AbstractContextManager[None] | None = None
) -> Iterator[OptunaLooks]:
    """Open the looks in an Optuna storage.

    Args:
        url: of the storage.
        next_step: what the user can do once a damaged storage has been moved away.
        creating: held while the storage's tables are created.

    Raises:
        InputError: the URL is not that of an Optuna storage.
        MMSearchError: the storage cannot be opened or does not answer.
    """
    with telling_errors(url, next_step):
        with creating or contextlib.nullcontext():
            storage = open_storage(url)
        try:
            yield OptunaLooks(storage)
        finally:
            storage.remove_session()
            storage.engine.dispose()


class OptunaLooks:
    """Looks in an Optuna storage: a study a test split, a trial a look, its value the test loss."""

    def __init__(self, storage: optuna.storages.BaseStorage) -> None:
        self._storage = storage

    def has_study(self, name: str, study_id: str) -> bool:
        """Return whether the storage has always had a study, and so knows of its earlier looks."""
        if name not in optuna.get_all_study_names(self._storage):
            return False
        attrs = optuna.load_study(study_name=name, storage=self._storage).user_attrs
        # A study that was created anew lacks the earlier looks until `mmsearch sync` adds them.
        return attrs.get(STUDY_ID) == study_id and not attrs.get(REFILLED, False)

    def restore(self, name: str, looks: list[Look]) -> None:
        """Add the looks of the other stores beside a study that was created anew."""
        for look in looks:
            self.write(look)
        study_id = self._storage.get_study_id_from_name(name)
        self._storage.set_study_user_attr(study_id, REFILLED, False)  # noqa: FBT003 (Optuna's)

    def read(self, split: str) -> list[Look]:
        """Return the looks at a split that count: the first of each number, and all with a result.

        One number has two looks where two storages, each with a ledger of its own, were merged.
        """
        counting: dict[int, str] = {}
        return [
            look
            for look, _ in self._all(split)
            if counting.setdefault(look.number, look.id) == look.id or look.result is not None
        ]

    def claim(self, look: Look) -> Look:
        """Claim a look.

        Returns:
            The look that counts under this number: this one, or one that was claimed before it.
        """
        study = self._open(look.split)
        study.add_trial(_trial(look))
        claims = [(c, trial) for c, trial in self._all(look.split) if c.number == look.number]
        first = claims[0][0]
        for claim, trial in claims[1:]:
            if claim.id == look.id:
                study.tell(trial.number, state=TrialState.FAIL)
        return first

    def write(self, look: Look) -> None:
        """Record a look's result, or a look that another store has."""
        study = self._open(look.split)
        trial = {known.id: trial for known, trial in self._all(look.split)}.get(look.id)
        if trial is None:
            study.add_trial(_trial(look))
        elif look.result is not None and trial.state == TrialState.RUNNING:
            # Another machine may finish the same look meanwhile, with the same number.
            with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):
                # The result first: a finished trial takes no more attributes.
                study_id = self._storage.get_study_id_from_name(_study_name(look.split))
                trial_id = self._storage.get_trial_id_from_study_id_trial_number(
                    study_id, trial.number
                )
                self._storage.set_trial_user_attr(trial_id, _RESULT, dict(look.result))
                study.tell(trial.number, look.result["test_loss"], skip_if_finished=True)

    def _open(self, split: str) -> optuna.Study:
        return optuna.create_study(
            study_name=_study_name(split),
            storage=self._storage,
            direction="minimize",
            load_if_exists=True,
        )

    def _all(self, split: str) -> list[tuple[Look, FrozenTrial]]:
        """Return every claim with its trial, in the order in which they were made."""
        if _study_name(split) not in optuna.get_all_study_names(self._storage):
            return []
        return [(_look(trial), trial) for trial in self._open(split).get_trials(deepcopy=False)]


def _look(trial: FrozenTrial) -> Look:
    """Read a look from its trial.

    Raises:
        MMSearchError: the trial's attributes are not a look's.
    """
    try:
        claim = trial.user_attrs[_CLAIM]
        return Look.from_json({**claim, "result": trial.user_attrs.get(_RESULT)})
    except (KeyError, TypeError, ValueError) as error:
        raise MMSearchError(
            f"trial {trial.number} of Optuna's ledger of looks is not a look: {error}"
        ) from error


def _study_name(split: str) -> str:
    return f"mmsearch/test/{split}"


def _trial(look: Look) -> FrozenTrial:
    """Return the trial that holds a look."""
    claim = look.to_json()
    result = claim.pop("result")
    if result is None:
        return create_trial(state=TrialState.RUNNING, user_attrs={_CLAIM: claim})
    return create_trial(value=result["test_loss"], user_attrs={_CLAIM: claim, _RESULT: result})
