"""The columns of a table are those that tell its trials apart."""

from typing import Any

from mmsearch.model.spec import TrialSpec
from mmsearch.search.study.recipes import start_point
from mmsearch.search.study.settings import Settings
from mmsearch.search.study.space import HYPERPARAMETERS, TRAINING
from mmsearch.tracking.hyperparameters import COLUMNS, shown_columns
from mmsearch.tracking.hyperparameters import HYPERPARAMETERS as NAMES


def spec(**point: Any) -> TrialSpec:
    """Return a trial's spec."""
    return Settings().trial_spec({**start_point(1_000), **point}, seed=0)


def shown(*specs: TrialSpec) -> list[str]:
    """Return the names of the columns beside the first four."""
    return [column.name for column in shown_columns(specs)][4:]


def test_everything_that_can_be_searched_has_a_column() -> None:
    assert [column.name for column in COLUMNS] == [*HYPERPARAMETERS, *TRAINING]
    assert list(NAMES) == list(HYPERPARAMETERS)


def test_what_is_equal_in_all_trials_is_left_out() -> None:
    assert shown(spec(), spec()) == []
    assert shown(spec(), spec(weight_decay=0.3)) == ["weight_decay"]
    assert shown(spec(), spec(optimizer="sgd", batch_size=32)) == ["batch_size", "optimizer"]
    assert shown() == []


def test_one_trial_shows_what_it_has() -> None:
    assert shown(spec()) == ["weight_decay", "context_noise"]
    assert shown(spec(weight_decay=0.0, context_noise=0.0)) == []
    [lr] = [column for column in COLUMNS if column.name == "learning_rate"]
    assert lr.text(spec(learning_rate=0.00123456)) == "0.00123"
