"""A study searched without training: proposals, reports and ends are recorded by the test."""

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mmsearch.model.curve import CurvePoint
from mmsearch.search.optimizer.optuna_study import OptunaProposer, not_begun
from mmsearch.search.study.settings import Settings
from mmsearch.tracking.journal.journal import Journal
from mmsearch.tracking.journal.records import Outcome, SegmentRecord, TrialRecord, TrialState


class Search:
    """Trials on record, and the Optuna study that follows from them."""

    def __init__(
        self,
        settings: Settings,
        enqueue: Iterable[Mapping[str, Any]] = (),
        folder: Path | None = None,
    ) -> None:
        """Begin a study, or resume the one in a folder.

        Args:
            settings: its settings.
            enqueue: configurations to try first, as in a config file.
            folder: folder of its journal; None keeps the records in memory.
        """
        self._settings = settings
        self._enqueue = list(enqueue)
        self._n_events = 0
        self.records: dict[int, TrialRecord] = {}
        self.journal = None if folder is None else Journal(folder)
        if self.journal is not None:
            self.journal.create()
            self.records = {record.number: record for record in self.journal.records()}
        self.rebuild()

    def rebuild(self) -> None:
        """Build the study from its records, as a new process does."""
        records = list(self.records.values())
        queue = not_begun(self._enqueue, records)
        self.proposer = OptunaProposer("names", self._settings, records, queue)

    def _next_ms(self) -> int:
        self._n_events += 1
        return 1_700_000_000_000 + self._n_events

    def begin(self) -> int:
        """Begin a trial; returns its number."""
        proposal = self.proposer.ask()
        spec = self._settings.trial_spec(proposal.point, proposal.seed)
        facts = {"started_ms": self._next_ms(), "n_parameters": 1, **proposal.facts}
        if self.journal is not None:
            self.journal.start(proposal.number, spec, facts)
        record = TrialRecord(number=proposal.number, spec=spec, facts=facts)
        self.records[proposal.number] = record
        return proposal.number

    def point(self, number: int) -> dict[str, Any]:
        """Return a trial's hyperparameters."""
        spec = self.records[number].spec
        return {name: getattr(spec, name) for name in self._settings.space.dimensions}

    def report(self, number: int, step: int, loss: float, *, is_last: bool = False) -> bool:
        """Report a dev loss; returns whether the trial is to be pruned.

        The pruner is not consulted about the last report of a trial.
        """
        record = self.records[number]
        line = SegmentRecord(
            segment=len(record.curve) + 1,
            step=step,
            train=(CurvePoint(step, loss, 0.1),),
            dev_loss=loss,
            wall_s=0.1,
            ended_ms=self._next_ms(),
            weights_sha256="x",
        )
        if self.journal is not None:
            self.journal.append(number, [line], b"")
        self.records[number] = dataclasses.replace(record, curve=(*record.curve, line))
        self.proposer.report(number, step, loss)
        return not is_last and self.proposer.should_prune(number)

    def end(self, number: int, state: str, reason: str = "") -> None:
        """End a trial."""
        outcome = Outcome(state=TrialState(state), reason=reason, ended_ms=self._next_ms())
        if self.journal is not None:
            self.journal.finish(number, outcome)
        self.records[number] = dataclasses.replace(self.records[number], outcome=outcome)
        self.proposer.tell(self.records[number])
