"""Records of trials that were never trained."""

from collections.abc import Mapping, Sequence
from typing import Any

from mmsearch.model.curve import CurvePoint
from mmsearch.model.spec import TrialSpec
from mmsearch.tracking.journal.journal import Journal
from mmsearch.tracking.journal.records import Outcome, SegmentRecord, TrialRecord, TrialState
from tests.support.specs import make_spec


def make_trial(  # noqa: PLR0913 (what a trial is)
    number: int,
    losses: Sequence[float | tuple[float, float]] = (),
    state: str = "COMPLETE",
    *,
    reason: str = "",
    facts: Mapping[str, Any] | None = None,
    spec: TrialSpec | None = None,
    **changes: Any,
) -> TrialRecord:
    """Make a record with these dev losses at steps 100, 200 and so on.

    Args:
        number: the trial's number.
        losses: dev losses; a pair has the losses on the two halves of dev, of which it is the mean.
        state: RUNNING for a trial without an outcome.
        reason: why it ended.
        facts: what else is known at its start.
        spec: its spec; None for a small one with `changes`.
        changes: fields of the small spec.
    """
    curve = []
    for nth, loss in enumerate(losses, start=1):
        halves = loss if isinstance(loss, tuple) else None
        mean = sum(halves) / 2 if halves else loss
        assert isinstance(mean, float | int)
        line = SegmentRecord(
            segment=nth,
            step=100 * nth,
            train=(CurvePoint(100 * nth, 2.0, 0.1),),
            dev_loss=mean,
            wall_s=1.0,
            ended_ms=nth,
            weights_sha256="",
            dev_parts=dict(zip(("half_1", "half_2"), halves, strict=True)) if halves else {},
        )
        curve.append(line)
    outcome = None
    if state != "RUNNING":
        outcome = Outcome(state=TrialState(state), reason=reason, ended_ms=9)
    return TrialRecord(
        number=number,
        spec=spec or make_spec(**{"n_segments": 1, **changes}),
        facts={"started_ms": 0, "n_parameters": 1, **(facts or {})},
        curve=curve,
        outcome=outcome,
    )


def write_trial(journal: Journal, record: TrialRecord) -> None:
    """Write a record into a journal, with empty weights."""
    journal.start(record.number, record.spec, record.facts)
    for line in record.curve:
        journal.append(record.number, [line], b"")
    if record.outcome is not None:
        journal.finish(record.number, record.outcome)
