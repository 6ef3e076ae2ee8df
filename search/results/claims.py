"""The ledger of looks at a test split: Optuna's storage decides, and two more places remember.

A look is claimed in Optuna's storage, where to add a trial to a study is one transaction that
gives it the next number, whatever process or machine it comes from: of all claims on one look, the
first counts. The user's own ledger and MLflow hold copies, each of which alone says spent.
"""

from __future__ import annotations

import contextlib
import itertools
from typing import TYPE_CHECKING

import optuna
from optuna.trial import TrialState, create_trial

from mmsearch.errors import MMSearchError
from mmsearch.tracking.ledger.record import Look

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from optuna.trial import FrozenTrial

_CLAIM = "mmsearch.claim"
_RESULT = "mmsearch.result"


class OptunaLooks:
    """Looks in an Optuna storage: a study a test split, a trial a look, its value the test loss."""

    def __init__(self, storage: optuna.storages.BaseStorage) -> None:
        self._storage = storage

    def read(self, split: str) -> list[Look]:
        """Give the looks at a split that count: the first under each number, and whatever was seen.

        Two under one number have been seen where two storages, each with a ledger of its own,
        have come together.
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
        """Note a look's result, or a look that another store knows of."""
        study = self._open(look.split)
        trial = {known.id: trial for known, trial in self._all(look.split)}.get(look.id)
        if trial is None:
            study.add_trial(_trial(look))
        elif look.result is not None and trial.state == TrialState.RUNNING:
            # Another machine may finish the same look meanwhile: with the same number.
            with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):
                # The result first: a trial that has been told takes no more attributes.
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
        """Give every claim with its trial, in the order in which they were made."""
        if _study_name(split) not in optuna.get_all_study_names(self._storage):
            return []
        return [(_look(trial), trial) for trial in self._open(split).get_trials(deepcopy=False)]


def _look(trial: FrozenTrial) -> Look:
    """Read a look from its trial.

    Raises:
        MMSearchError: the trial's attributes hold none.
    """
    try:
        claim = trial.user_attrs[_CLAIM]
        return Look.from_json({**claim, "result": trial.user_attrs.get(_RESULT)})
    except (KeyError, TypeError, ValueError) as error:
        raise MMSearchError(
            f"Optuna's ledger of looks has a trial {trial.number} that is none: {error}"
        ) from error


def _study_name(split: str) -> str:
    return f"mmsearch/test/{split}"


def _trial(look: Look) -> FrozenTrial:
    """Make the trial that holds a look."""
    claim = look.to_json()
    result = claim.pop("result")
    if result is None:
        return create_trial(state=TrialState.RUNNING, user_attrs={_CLAIM: claim})
    return create_trial(value=result["test_loss"], user_attrs={_CLAIM: claim, _RESULT: result})


def merge(stores: Iterable[Iterable[Look]]) -> Sequence[Look]:
    """Gather the looks of all stores, in their order; of one look, what has a result holds."""
    found: dict[str, Look] = {}
    for look in itertools.chain.from_iterable(stores):
        if look.id not in found or found[look.id].result is None:
            found[look.id] = look
    return sorted(found.values(), key=lambda look: (look.number, look.claimed_ms))
