"""Which losses the charts of MLflow have in view."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest

from mmsearch.model.curve import CurvePoint
from mmsearch.tracking.journal.records import Outcome, SegmentRecord, TrialRecord, TrialState
from mmsearch.tracking.mlflow.curve_axes import CurveScale, widened
from tests.support.specs import make_spec

if TYPE_CHECKING:
    from collections.abc import Sequence

N_CHARACTERS = 27


def trial(
    dev: Sequence[float],
    state: str = "COMPLETE",
    train: Sequence[float] | None = None,
    **spec: Any,
) -> TrialRecord:
    """Make a trial with these losses, one an evaluation."""
    curve = [
        SegmentRecord(
            segment=n,
            step=100 * n,
            train=(CurvePoint(100 * n, loss, 0.1),),
            dev_loss=loss,
            wall_s=1,
            ended_ms=n,
            weights_sha256="0" * 64,
            train_loss=train[n - 1] if train else None,
        )
        for n, loss in enumerate(dev, start=1)
    ]
    outcome = (
        None if state == "RUNNING" else Outcome(state=TrialState(state), reason="", ended_ms=9)
    )
    return TrialRecord(number=0, spec=make_spec(**spec), facts={}, curve=curve, outcome=outcome)


def scale_of(*trials: TrialRecord) -> CurveScale:
    """Return the scale of some trials."""
    scale = widened(None, trials, N_CHARACTERS)
    assert scale is not None
    return scale


@pytest.mark.parametrize("state", ["COMPLETE", "PRUNED"])
def test_end_of_every_curve_is_in_view(state: str) -> None:
    for last in (1.9, 2.0, 2.95, 3.2):
        scale = scale_of(trial([3.3, 2.5, 2.0]), trial([3.3, last], state))
        assert scale.low < min(last, 2.0)
        assert scale.high > last


def test_diverged_trials_do_not_flatten_the_others() -> None:
    others = [trial([3.0, 2.2, 2.1, 2.0]), trial([3.1, 2.6], "PRUNED")]
    expected = scale_of(*others)
    for state in ("FAIL", "PRUNED", "COMPLETE"):
        assert scale_of(*others, trial([90.0, 900.0], state)) == expected
    mixed = scale_of(*others, trial([2.4, 900.0], "PRUNED"))
    assert mixed.high < 1.1 * math.log(N_CHARACTERS)


def test_first_losses_do_not_flatten_the_rest() -> None:
    falling = [27.0, 3.2, 2.5, 2.3, 2.2, 2.1, 2.05, 2.02, 2.0]
    scale = scale_of(trial(falling))
    assert 2.5 < scale.high < 3
    assert scale.low < 2.0


def test_train_loss_below_dev_is_in_view() -> None:
    scale = scale_of(trial([2.5, 2.3, 2.4], train=[2.4, 1.8, 1.2], patience=3))
    assert scale.low < 1.2
    assert scale.high > 2.4


def test_steps_are_logarithmic_where_evaluations_grow() -> None:
    assert scale_of(trial([2.0], evaluations="growing")).has_log_steps
    assert not scale_of(trial([2.0])).has_log_steps


def test_scale_only_widens() -> None:
    first, second = trial([2.6, 2.5]), trial([2.3, 2.1])
    both = scale_of(first, second)
    assert widened(scale_of(second), [first], N_CHARACTERS) == both
    assert widened(both, [first, second], N_CHARACTERS) == both
    assert widened(both, [], N_CHARACTERS) == both


def test_nothing_to_show_has_no_scale() -> None:
    assert widened(None, [], N_CHARACTERS) is None
    hopeless = [trial([]), trial([80.0]), trial([2.0], "FAIL")]
    assert widened(None, hopeless, N_CHARACTERS) is None
