"""The job of `mmsearch extend`: a trial, trained on from its final weights."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mmsearch.errors import InputError
from mmsearch.search.execution.confirm_job import PlannedTrainings
from mmsearch.search.protocols import Proposal
from mmsearch.search.results.selection import extensions, find_trial, read_extensions
from mmsearch.search.study.workspace import options_of
from mmsearch.tracking.journal.records import TrialState

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    from mmsearch.model.spec import TrialSpec
    from mmsearch.search.study.session import Session
    from mmsearch.search.study.settings import Settings
    from mmsearch.tracking.journal.journal import Journal
    from mmsearch.tracking.journal.records import TrialRecord

_OF_SETTINGS = ("seed", "n_steps", "n_segments")
"""Fields of a spec that `Settings.trial_spec` sets itself."""


def extension_seed(parent_seed: int) -> int:
    """Return the 32-bit seed of an extension, which draws other minibatches than its parent did."""
    return int(np.random.SeedSequence([parent_seed, 3]).generate_state(1)[0])


def parent_weights(journal: Journal, number: int) -> bytes:
    """Return the model of a trial without the state of its training, as safetensors.

    Raises:
        InputError: there is no such trial, or its weights are not a model.
        JournalError: a file is damaged.
    """
    from mmsearch.model import checkpoint  # noqa: PLC0415 (imports torch)

    content = journal.read_weights(find_trial(journal, number))
    return checkpoint.to_bytes(checkpoint.from_bytes(content))


@dataclass(frozen=True, slots=True)
class Extend:
    """The job of `mmsearch extend`: one training, which the journal knows by its spec.

    It starts from the model of the parent trial at a constant rate, takes exactly the given number
    of steps, and is scored by its last weights. An optimizer's moments are not kept with a finished
    trial, so they start at 0.
    """

    session: Session
    parent: TrialRecord
    """The trial that it goes on from, which has finished."""
    spec: TrialSpec
    """The spec of the training."""
    initial_weights: bytes
    """The model of the parent trial."""

    @classmethod
    def of(cls, session: Session, number: int, steps: int, learning_rate: float | None) -> Extend:
        """Prepare the training of a trial's extension; writes nothing.

        Args:
            session: the study.
            number: the number of the parent trial.
            steps: optimizer steps.
            learning_rate: its rate; None for that of the parent's last step.

        Raises:
            InputError: there is no such trial, it has not finished, or a value is out of range.
            JournalError: a file is damaged.
        """
        journal = session.journal
        parent = find_trial(journal, number)
        if parent.outcome is None:
            raise InputError(
                f"trial {number} has not ended; wait for it, or resume it with: mmsearch run "
                f"--trials {session.file.n_trials}{options_of(journal)}"
            )
        if parent.state == TrialState.FAIL or not parent.curve:
            raise InputError(
                f"trial {number} failed, so it has no final weights; name another one; see: "
                f"mmsearch trials{options_of(journal)}"
            )
        rate = parent.curve[-1].train[-1][2] if learning_rate is None else learning_rate
        spec = dataclasses.replace(
            parent.spec,
            seed=extension_seed(parent.spec.seed),
            n_steps=steps,
            n_segments=min(parent.spec.n_segments, steps),
            learning_rate=rate,
            schedule="constant",
            patience=0,
            extend_to=1.0,
        )
        job = cls(session, parent, spec, parent_weights(journal, number))
        _ = job.settings  # checks the steps
        return job

    @property
    def journal(self) -> Journal:
        """The journal of the extensions."""
        return extensions(self.session.journal)

    @property
    def settings(self) -> Settings:
        """The study's settings with the steps of the extension."""
        return dataclasses.replace(
            self.session.file.settings, steps=self.spec.n_steps, segments=self.spec.n_segments
        )

    @property
    def n_lanes(self) -> None:
        """None: there is one training."""

    def decides(self, spec: TrialSpec, segment: int) -> bool:
        """Return False: an extension is not pruned."""
        del spec, segment
        return False

    def records(self) -> list[TrialRecord]:
        """Read the training, if it has begun.

        One that failed for another reason than divergence is trained again.
        """
        return [
            record
            for record in read_extensions(self.session.journal)
            if record.facts["parent_trial"] == self.parent.number
            and record.spec == self.spec
            and (record.state != TrialState.FAIL or record.divergence)
        ]

    def n_left(self, records: Sequence[TrialRecord]) -> int:
        """Return 1 until the training has ended."""
        return int(not any(record.outcome for record in records))

    def view(self) -> None:
        """Return None: an extension is no trial of the Optuna study, which did not propose it."""

    def begin(self) -> None:
        """Do nothing: the study has begun."""

    def withdraw(self) -> None:
        """Do nothing: `begin` did nothing."""

    def propose(
        self, records: Sequence[TrialRecord], enqueued: Iterable[Mapping[str, Any]]
    ) -> PlannedTrainings:
        """Propose the training unless it has begun."""
        del enqueued  # nobody can enqueue an extension
        if records:
            return PlannedTrainings([])
        values = self.spec.to_json()
        return PlannedTrainings(
            [
                Proposal(
                    number=max(self.journal.numbers(), default=-1) + 1,
                    point={name: v for name, v in values.items() if name not in _OF_SETTINGS},
                    seed=self.spec.seed,
                    facts={"parent_trial": self.parent.number},
                )
            ]
        )
