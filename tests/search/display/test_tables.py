"""Tables fit a terminal of 80 columns, whatever is searched."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from mmsearch.search.cli.trials import trials_table
from mmsearch.search.display.format import trial_line
from mmsearch.search.display.tables import WIDTH, TableColumn, fitted_table
from mmsearch.search.study.settings import Settings
from tests.support.records import make_trial

if TYPE_CHECKING:
    from rich.table import Table

POINTS = st.fixed_dictionaries(
    {
        "embedding_dim": st.integers(2, 64),
        "hidden_width": st.integers(8, 640),
        "block_size": st.integers(2, 10),
        "learning_rate": st.floats(5e-4, 1.0),
        "weight_decay": st.floats(1e-5, 2.0),
        "context_noise": st.just(0.0) | st.floats(0.01, 0.4),
        "batch_size": st.sampled_from([32, 128]),
        "optimizer": st.sampled_from(["sgd", "adam"]),
        "schedule": st.sampled_from(["cosine", "constant"]),
    }
)


def lines(shown: Table) -> list[str]:
    """Print a table as a wide terminal would."""
    out = io.StringIO()
    Console(file=out, width=200).print(shown)
    return out.getvalue().splitlines()


@settings(deadline=None)  # rich is slow on a busy machine
@given(points=st.lists(POINTS, min_size=1, max_size=8))
def test_trials_fit_with_all_hyperparameters(points: list[dict[str, Any]]) -> None:
    """Categories and the parameters make room for what is searched in every study."""
    specs = [Settings().trial_spec(point, seed=0) for point in points]
    facts = {"n_parameters": 345_678}
    records = [make_trial(n, [2.0], spec=spec, facts=facts) for n, spec in enumerate(specs)]
    printed = lines(trials_table(records, is_running=False))
    assert max(len(line.rstrip()) for line in printed) <= WIDTH
    if len(points) == 1 or len({point["weight_decay"] for point in points}) > 1:
        assert " wd " in printed[0]
    for each in records:
        assert len(trial_line(each, is_best=True)) <= WIDTH


def test_columns_that_do_not_fit_are_left_out_by_rank() -> None:
    """The lower rank stays; a narrow one of a higher rank may still find room."""
    wide = "x" * 30
    columns = [
        TableColumn(heading="always", cells=[wide]),
        TableColumn(heading="narrow", cells=["x"], rank=3),
        TableColumn(heading="later", cells=[wide], rank=2),
        TableColumn(heading="first", cells=[wide], rank=1),
    ]
    assert lines(fitted_table(columns, [None]))[0].split() == ["always", "narrow", "first"]
