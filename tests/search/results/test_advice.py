"""What is said of a best trial, and what is not said of one that deserves no warning."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from mmsearch.search.results.advice import confirmation_advice, search_warnings
from mmsearch.search.results.selection import Candidate, Confirmation, Plan
from mmsearch.search.study.space import Space
from mmsearch.tracking.journal.baselines import Baselines
from mmsearch.tracking.journal.journal import Journal
from mmsearch.tracking.journal.records import TrialRecord
from tests.support.records import make_trial

BASELINES = Baselines(uniform=3.3, bigram=2.45, ngram=2.0, ngram_order=5, ngram_strength=6.0)
MIDDLE = {"embedding_dim": 10, "hidden_width": 100, "block_size": 5, "learning_rate": 0.1}
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
    number: int, losses: Sequence[float], state: str = "COMPLETE", **spec: Any
) -> TrialRecord:
    """Make a trial with these dev losses at steps 100, 200 and so on."""
    return make_trial(number, losses, state, **{**MIDDLE, **spec})


def warnings(
    *records: TrialRecord, baselines: Baselines | None = BASELINES, **space: Any
) -> list[str]:
    """Return what is said of a study's best trial."""
    return search_warnings(records, baselines, Space.parse({**SPACE, **space}), " --study names")


GOOD = [2.1, 1.9, 1.95]
"""Better than the baselines, and lowest between its ends."""
WORSE = trial(9, [9.9, 9.8, 9.9])


@pytest.mark.parametrize(
    ("losses", "spec", "named"),
    [
        ([2.3, 2.2, 2.2], {}, ("trial 3", "n-gram", "2.2000", "--study")),
        ([2.1, 2.0, 2.0], {}, ("trial 3", "n-gram", "2.0000", "--study")),
        ([2.5, 2.45, 2.45], {}, ("trial 3", "bigram", "2.4500", "--study")),
        ([9.1, 9.0, 9.0], {}, ("trial 3", "bigram", "9.0000", "--study")),
        (GOOD, {"block_size": 10}, ("upper edge", "[space] block_size")),
        (GOOD, {"block_size": 2}, ("lower edge", "[space] block_size")),
        (GOOD, {"learning_rate": 0.99}, ("upper edge", "[space] learning_rate")),
        (GOOD, {"learning_rate": 0.0101}, ("lower edge", "[space] learning_rate")),
        (GOOD, {"hidden_width": 32}, ("lower edge", "[space] hidden_width")),
        ([1.9, 1.95, 1.96], {}, ("first evaluation, step 100", "learning rates")),
        ([1.99, 1.95, 1.94], {}, ("last evaluation, step 300", "more --steps")),
    ],
)
def test_flaw_of_the_best_is_one_warning(
    losses: list[float], spec: dict[str, Any], named: tuple[str, ...]
) -> None:
    """It names the value, the weakest baseline that is not beaten or the edge, and a remedy."""
    (said,) = warnings(trial(3, losses, **spec), WORSE)

    assert [part for part in named if part not in said] == []
    assert not ("bigram" in said and "n-gram" in said)


@pytest.mark.parametrize(
    ("spec", "space"),
    [
        ({}, {}),
        ({"block_size": 3}, {}),
        ({"block_size": 1}, {"block_size": {"low": 1, "high": 10}}),  # there is no lower one
        ({"block_size": 3}, {"block_size": {"low": 3, "high": 4}}),  # each of two is at an edge
        ({"block_size": 8}, {"block_size": 8}),
        ({"learning_rate": 0.9}, {}),
        ({"weight_decay": 0.0}, {"weight_decay": {"low": 0.0, "high": 1e-3, "log": False}}),
    ],
)
def test_good_best_is_left_alone(spec: dict[str, Any], space: dict[str, Any]) -> None:
    """A warning that is always there is read by nobody; what cannot be widened is no edge."""
    assert warnings(trial(3, GOOD, **spec), WORSE, **space) == []


def test_nothing_is_said_of_what_is_not_known() -> None:
    """Without a complete trial, without baselines, or with one point there is less to say."""
    assert warnings() == []
    assert warnings(trial(0, [2.9], "PRUNED")) == []
    assert warnings(trial(3, [9.2, 9.0, 9.0]), WORSE, baselines=None) == []
    assert warnings(trial(3, [1.9]), WORSE) == [], "one point has no ends"


def test_remedy_follows_from_the_curve() -> None:
    """Fewer steps help a trial that was better before, and more steps one that was not."""
    rising = warnings(trial(3, [2.9, 2.4, 2.5]), WORSE)
    falling = warnings(trial(3, [2.9, 2.6, 2.5]), WORSE)
    kept = warnings(trial(3, [2.9, 2.46, 2.5], patience=2), WORSE)

    assert "fewer --steps" in rising[0]
    assert "step 200" in rising[0]
    assert "more --steps" in falling[0]
    assert "--steps" not in kept[0], "its best weights are the model already"


def test_only_complete_trial_has_nothing_beside_it() -> None:
    """The next command asks for more trials than there are."""
    (said,) = warnings(trial(7, GOOD), trial(8, [2.2], "PRUNED"), trial(9, [], "FAIL"))

    assert said.endswith("mmsearch run --trials 12 --study names")


def test_scale_of_the_range_says_what_is_near() -> None:
    """0.0108 is 0.1 % of a linear range from 0.01 to 1, and 1.7 % of a logarithmic one."""
    for is_log in (True, False):
        searched = {"low": 0.01, "high": 1.0, "log": is_log}
        best = trial(3, GOOD, learning_rate=0.0108)
        assert bool(warnings(best, WORSE, learning_rate=searched)) != is_log


def test_confirmed_winner_is_judged_by_its_mean(tmp_path: Path) -> None:
    """Its best seed beats the n-gram by luck, and its mean does not."""
    repeats = (trial(0, [2.1, 1.99, 2.0]), trial(1, [2.2, 2.05, 2.06]))
    winner = Candidate(trial=trial(7, GOOD), repeats=repeats, n_failed=0)
    plan = Plan(top=1, trials=(7,), n_seeds=2, steps=300)
    confirmation = Confirmation(plan=plan, candidates=(winner,), n_missing=0)
    journal = Journal(tmp_path)
    journal.write_baselines(BASELINES)

    advice = confirmation_advice(journal, confirmation, Space.parse(SPACE))

    assert advice.baselines == BASELINES
    said, lonely = advice.warnings
    assert f"{winner.mean:.4f}" in said
    assert "n-gram" in said
    assert "nothing to compare" in lonely
