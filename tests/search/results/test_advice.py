"""What is said of a best trial, and what is not said of one that deserves no warning."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from mmsearch.search.results.advice import confirmation_advice, known_baselines, search_warnings
from mmsearch.search.results.selection import Candidate, Confirmation, Plan
from mmsearch.search.study.space import Space
from mmsearch.tracking.journal.baselines import Baselines
from mmsearch.tracking.journal.journal import Journal
from mmsearch.tracking.journal.records import Outcome, SegmentRecord, TrialRecord, TrialState
from tests.support.specs import make_spec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

BASELINES = Baselines(uniform=3.3, bigram=2.45, ngram=2.0, ngram_order=5, ngram_strength=6.0)
MIDDLE = {
    "embedding_dim": 10,
    "hidden_width": 100,
    "block_size": 5,
    "learning_rate": 0.1,
    "weight_decay": 0.0,
}
"""Within every range of `SPACE`."""
SPACE: dict[str, Any] = {
    "embedding_dim": {"low": 2, "high": 48, "log": True},
    "hidden_width": {"low": 32, "high": 512, "log": True},
    "block_size": {"low": 2, "high": 10},
    "learning_rate": {"low": 1e-2, "high": 1.0, "log": True},
    "weight_decay": 0.0,
    "context_noise": 0.0,
}


def trial(
    number: int,
    losses: Sequence[float],
    *,
    state: str = "COMPLETE",
    spec: Mapping[str, float] | None = None,
) -> TrialRecord:
    """Make a trial with these dev losses at steps 100, 200 and so on."""
    curve = tuple(
        SegmentRecord(
            segment=n,
            step=100 * n,
            train=(),
            dev_loss=loss,
            wall_s=1.0,
            ended_ms=0,
            weights_sha256="",
        )
        for n, loss in enumerate(losses, start=1)
    )
    return TrialRecord(
        number=number,
        spec=make_spec(**{**MIDDLE, **(spec or {})}),
        facts={},
        curve=curve,
        outcome=Outcome(state=TrialState(state), ended_ms=0),
    )


def warnings(
    *records: TrialRecord, baselines: Baselines | None = BASELINES, **space: Any
) -> list[str]:
    """Return what is said of a study's best trial."""
    return search_warnings(records, baselines, Space.parse({**SPACE, **space}), " --study names")


GOOD = trial(7, [2.1, 1.9, 1.95])
OTHER = trial(8, [2.2, 2.1, 2.11])


def test_good_best_is_left_alone() -> None:
    """A warning that is always there is read by nobody."""
    assert warnings(GOOD, OTHER) == []
    assert warnings() == []
    assert warnings(trial(0, [2.9], state="PRUNED")) == []


@pytest.mark.parametrize(
    ("loss", "named"), [(2.2, "n-gram"), (2.0, "n-gram"), (2.45, "bigram"), (9.0, "bigram")]
)
def test_best_that_a_count_beats_is_named(loss: float, named: str) -> None:
    """The baseline that is not beaten is said once, the weaker one alone where it is that."""
    (said,) = warnings(trial(3, [loss + 0.1, loss, loss]), OTHER_WORSE)

    assert "trial 3" in said
    assert f"{loss:.4f}" in said
    assert ("bigram" in said, "n-gram" in said) == (named == "bigram", named == "n-gram")
    assert "--study" in said


OTHER_WORSE = trial(9, [9.9, 9.8, 9.9])


def test_unknown_baselines_are_not_held_against_it() -> None:
    """An old study has none."""
    assert warnings(trial(3, [9.2, 9.0, 9.0]), OTHER_WORSE, baselines=None) == []


def test_remedy_follows_from_the_curve() -> None:
    """Fewer steps help a trial that was better before, and more steps one that was not."""
    rising = warnings(trial(3, [2.9, 2.4, 2.5]), OTHER_WORSE)
    falling = warnings(trial(3, [2.9, 2.6, 2.5]), OTHER_WORSE)
    kept = warnings(trial(3, [2.9, 2.46, 2.5], spec={"patience": 2}), OTHER_WORSE)

    assert "fewer --steps" in rising[0]
    assert "step 200" in rising[0]
    assert "more --steps" in falling[0]
    assert "--steps" not in kept[0], "its best weights are the model already"


def test_only_complete_trial_has_nothing_beside_it() -> None:
    """The next command asks for more trials than there are."""
    (said,) = warnings(GOOD, trial(8, [2.2], state="PRUNED"), trial(9, [], state="FAIL"))

    assert said.endswith("mmsearch run --trials 12 --study names")


@pytest.mark.parametrize(
    ("name", "value", "edge"),
    [
        ("block_size", 10, "upper"),
        ("block_size", 2, "lower"),
        ("learning_rate", 0.99, "upper"),
        ("learning_rate", 0.0101, "lower"),
        ("embedding_dim", 48, "upper"),
        ("hidden_width", 32, "lower"),
    ],
)
def test_best_at_an_edge_names_it(name: str, value: float, edge: str) -> None:
    """A range that is too narrow hides what is better outside of it."""
    (said,) = warnings(trial(3, [2.0, 1.9, 1.95], spec={name: value}), OTHER)

    assert f"{edge} edge" in said
    assert f"[space] {name}" in said


@pytest.mark.parametrize(
    ("name", "value", "searched"),
    [
        ("block_size", 3, {"low": 2, "high": 10}),
        ("block_size", 1, {"low": 1, "high": 10}),  # there is no lower one
        ("block_size", 3, {"low": 3, "high": 4}),  # of two values each is at an edge
        ("block_size", 8, 8),
        ("learning_rate", 0.9, {"low": 0.01, "high": 1.0, "log": True}),
        ("weight_decay", 0.0, {"low": 0.0, "high": 1e-3, "log": False}),  # likewise
    ],
)
def test_best_inside_or_where_no_range_goes_on_is_left_alone(
    name: str, value: float, searched: Any
) -> None:
    """What cannot be widened is no edge."""
    assert warnings(trial(3, [2.0, 1.9, 1.95], spec={name: value}), OTHER, **{name: searched}) == []


def test_scale_of_the_range_says_what_is_near() -> None:
    """0.0108 is 0.1 % of a linear range from 0.01 to 1, and 1.7 % of a logarithmic one."""
    for is_log in (True, False):
        searched = {"low": 0.01, "high": 1.0, "log": is_log}
        best = trial(3, [2.0, 1.9, 1.95], spec={"learning_rate": 0.0108})
        assert bool(warnings(best, OTHER, learning_rate=searched)) != is_log


def test_lowest_point_at_either_end_is_said() -> None:
    """At the first evaluation training only harms; at the last one it would go on."""
    (first,) = warnings(trial(3, [1.9, 1.95, 1.96]), OTHER)
    (last,) = warnings(trial(3, [1.99, 1.95, 1.94]), OTHER)

    assert "first evaluation, step 100" in first
    assert "learning rates" in first
    assert "last evaluation, step 300" in last
    assert "more --steps" in last
    assert warnings(trial(3, [1.9]), OTHER) == [], "one point has no ends"


def test_confirmed_winner_is_judged_by_its_mean(tmp_path: Path) -> None:
    """Its best seed beats the n-gram by luck, and its mean does not."""
    repeats = (trial(0, [2.1, 1.99, 2.0]), trial(1, [2.2, 2.05, 2.06]))
    winner = Candidate(trial=GOOD, repeats=repeats, n_failed=0)
    plan = Plan(top=1, trials=(7,), n_seeds=2, steps=300)
    confirmation = Confirmation(plan=plan, candidates=(winner,), n_missing=0)
    journal = Journal(tmp_path)
    journal.write_baselines(BASELINES)

    advice = confirmation_advice(journal, confirmation, Space.parse(SPACE))

    assert advice.baselines == BASELINES
    (said,) = advice.warnings
    assert f"{winner.mean:.4f}" in said
    assert "n-gram" in said


def test_damaged_baselines_become_a_warning(tmp_path: Path) -> None:
    """A file that can be counted again stops no command."""
    assert known_baselines(Journal(tmp_path)).to_json() == {"baselines": None, "warnings": []}
    (tmp_path / "baselines.json").write_text("x")

    known = known_baselines(Journal(tmp_path))

    assert known.baselines is None
    (said,) = known.warnings
    assert "baselines.json" in said
    assert "mmsearch run" in said
