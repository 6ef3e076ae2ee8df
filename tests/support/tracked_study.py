"""A study's journal, written as the coordinator writes it, with weights that MLflow can show."""

import hashlib
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from safetensors.numpy import save

from mmsearch.model.curve import CurvePoint
from mmsearch.tracking.journal.journal import Journal
from mmsearch.tracking.journal.records import Outcome, SegmentRecord, TrialRecord, TrialState
from mmsearch.tracking.mlflow.runs import StudyFacts
from mmsearch.tracking.mlflow.tracker import StudyTracker
from mmsearch.tracking.study_summary import StudySummary
from tests.support.specs import make_spec

CHARACTERS = ".abcdefghijklmnopqrstuvwxyz"
T0_MS = 1_700_000_000_000
STEPS_A_SEGMENT = 500


@dataclass(frozen=True, slots=True)
class Study:
    """One study's journal, and the words to show it with; equal calls write equal bytes."""

    journal: Journal
    live: dict[int, TrialRecord] = field(default_factory=dict)
    """What a coordinator holds in memory: the latest record of each trial."""

    @property
    def facts(self) -> StudyFacts:
        """What all its runs share."""
        return StudyFacts(
            name=self.journal.name,
            options=f" --study {self.journal.name}",
            id=f"id-of-{self.journal.name}",
            tags={"mmsearch.corpus": "c" * 64, "mmsearch.split": "d" * 64},
            params={"n_steps": 2000, "sampler": "tpe", "space.block_size": "3 to 8"},
            description=f"Study `{self.journal.name}`, of a test.",
            words="ten words",
            characters=tuple(CHARACTERS),
        )

    def tracker(self, uri: str, artifacts: Path | None = None) -> StudyTracker:
        """Make what shows it, as a process of its own would."""
        return StudyTracker(uri=uri, facts=self.facts, artifacts=artifacts)

    def begin(
        self, number: int, patience: int = 0, n_segments: int = 3, **facts: Any
    ) -> TrialRecord:
        """Start a trial of so many planned segments."""
        spec = make_spec(
            embedding_dim=2 + number % 3,
            hidden_width=100 + number,
            learning_rate=0.1 / (number + 1),
            weight_decay=0.0001,
            seed=1000 + number,
            n_steps=STEPS_A_SEGMENT * n_segments,
            n_segments=n_segments,
            patience=patience,
        )
        facts = {"started_ms": T0_MS + number * 1_000_000, "n_parameters": 11_897} | facts
        self.journal.start(number, spec, facts)
        return self._keep(TrialRecord(number=number, spec=spec, facts=facts))

    def weights(self, number: int, segment: int) -> bytes:
        """Return a trial's weights after a segment."""
        rng = np.random.default_rng([number, segment])
        embedding_dim = self.live[number].spec.embedding_dim
        return save({"C": rng.normal(size=(len(CHARACTERS), embedding_dim)).astype(np.float32)})

    def train(
        self, number: int, n_points: int = 5, samples: tuple[str, ...] = (), **losses: Any
    ) -> TrialRecord:
        """Append a segment to a trial, with these fields of its line; else as version 0.1 did."""
        before = self.live[number]
        segment = len(before.curve) + 1
        first, last = (segment - 1) * STEPS_A_SEGMENT, segment * STEPS_A_SEGMENT
        steps = np.linspace(first, last, n_points + 1).astype(int).tolist()[1:]
        weights = self.weights(number, segment)
        line = SegmentRecord(
            segment=segment,
            step=last,
            train=tuple(CurvePoint(step, 2.0 + 1.0 / (step + number + 1), 0.1) for step in steps),
            dev_loss=2.1 + 0.01 * number + 1.0 / segment,
            wall_s=0.25,
            ended_ms=before.facts["started_ms"] + segment * 1000,
            weights_sha256=hashlib.sha256(weights).hexdigest(),
        )
        line = msgspec.structs.replace(line, **losses)
        self.journal.append(number, [line], weights, samples)
        return self._keep(
            TrialRecord(
                number=number, spec=before.spec, facts=before.facts, curve=(*before.curve, line)
            )
        )

    def end(self, number: int, state: str, reason: str = "", error: str = "") -> TrialRecord:
        """End a trial."""
        before = self.live[number]
        ended_ms = before.facts["started_ms"] + 100_000
        outcome = Outcome(state=TrialState(state), reason=reason, ended_ms=ended_ms)
        self.journal.finish(number, outcome, error=error)
        return self._keep(
            TrialRecord(
                number=number,
                spec=before.spec,
                facts=before.facts,
                curve=before.curve,
                outcome=outcome,
            )
        )

    def complete(self, number: int, n_segments: int = 2) -> TrialRecord:
        """Write a whole trial."""
        self.begin(number, n_segments=n_segments)
        for segment in range(1, n_segments + 1):
            self.train(number, samples=("emma", "zoë") if segment == n_segments else ())
        return self.end(number, "COMPLETE")

    def summary(self, *, is_done: bool = True) -> StudySummary:
        """Return the summary of the study as it stands now."""
        return StudySummary(
            trials=self.journal.records(),
            importances=lambda: {"learning_rate": 0.75, "hidden_width": 0.25},
            log_axes=frozenset({"learning_rate"}),
            is_done=is_done,
        )

    def _keep(self, record: TrialRecord) -> TrialRecord:
        self.live[record.number] = record
        return record


@dataclass(frozen=True, slots=True)
class NewStore:
    """An MLflow store as its creation left it, which takes MLflow seconds."""

    path: Path
    existed_at_lock: bool
    """Whether the file was there when the tracker asked for the lock."""
    existed_at_release: bool

    def copy(self, folder: Path) -> str:
        """Make a store of a test's own; returns its URI."""
        return f"sqlite:///{shutil.copy(self.path, folder / 'mlflow.db')}"
