"""Choosing on dev: the best mean over fresh seeds, and nothing that is not settled."""

import json
import math
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmsearch.errors import InputError, RefusedError
from mmsearch.search.cli.confirm import to_json
from mmsearch.search.execution.confirm_job import (
    PlannedTrainings,
    confirm_seed,
    make_plan,
    propose_trainings,
)
from mmsearch.search.optimizer.samplers import trial_seed
from mmsearch.search.results.selection import (
    Candidate,
    Confirmation,
    choose,
    confirmations,
    leading,
    repeats,
    t_95,
)
from mmsearch.search.study.settings import Settings
from mmsearch.tracking.journal.files import JournalError
from mmsearch.tracking.journal.journal import Journal
from mmsearch.tracking.journal.records import Outcome, TrialState
from tests.support.records import make_trial, write_trial

STEPS = 100
LOSSES = {(1, 1): 2.20, (3, 1): 2.11, (1, 2): 2.16, (3, 2): 2.19}
"""Dev losses of trials 1 and 3 from two seeds."""


def point(width: int) -> dict[str, Any]:
    """Return hyperparameters that differ in the width."""
    return {
        "embedding_dim": 2,
        "hidden_width": width,
        "block_size": 3,
        "learning_rate": 0.1,
        "weight_decay": 0.0,
        "context_noise": 0.0,
    }


def add(journal: Journal, number: int, loss: float, state: str = "COMPLETE", **more: Any) -> None:
    """Write a trial of one segment."""
    facts, steps = more.get("facts"), more.get("steps", STEPS)
    spec = {**point(more.get("width", 10 + number)), "seed": number, "n_steps": steps}
    reason = "the train loss is not finite at step 3 of 100" if state == "FAIL" else ""
    write_trial(journal, make_trial(number, [loss], state, reason=reason, facts=facts, **spec))


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    """Write a study of five complete trials and a pruned one that had a lower loss."""
    journal = Journal(tmp_path / "names")
    for number, loss in enumerate((2.3, 2.1, 2.2, 2.15, 2.4)):
        add(journal, number, loss)
    add(journal, 5, 1.9, "PRUNED")
    return journal


def proposer_of(journal: Journal, top: int, n_seeds: int, steps: int = STEPS) -> PlannedTrainings:
    """Begin a plan, or go on with it, as `mmsearch confirm` does."""
    plan = make_plan(journal, top, n_seeds, steps)
    return propose_trainings(journal, plan, Settings(), list(repeats(journal, plan).values()))


def train(
    journal: Journal,
    plan: tuple[int, ...],
    losses: Mapping[tuple[int, int], float],
    state: str = "COMPLETE",
) -> None:
    """Write what the coordinator would, for the trainings of a plan that have a loss."""
    proposer = proposer_of(journal, *plan)
    while (proposal := proposer.ask()) is not None:
        facts = dict(proposal.facts)
        key = (facts["trial"], facts["nth_seed"])
        if key not in losses:
            return
        steps = plan[2] if len(plan) == 3 else STEPS
        add(confirmations(journal), proposal.number, losses[key], state, facts=facts, steps=steps)


def confirmed(journal: Journal) -> Confirmation:
    """Read the confirmation of a study that has one."""
    found = Confirmation.read(journal)
    assert found is not None
    return found


def winner(journal: Journal) -> Candidate:
    """Return the candidate that a confirmation chose."""
    found = confirmed(journal).winner
    assert found is not None
    return found


def next_training(proposer: PlannedTrainings) -> tuple[int, int, int]:
    """Return the number, the trial and the seed of the training that is proposed first."""
    proposal = proposer.ask()
    assert proposal is not None
    facts = proposal.facts
    assert proposal.point == point(10 + facts["trial"])
    return proposal.number, facts["trial"], facts["nth_seed"]


def test_best_trial_is_the_choice_without_a_confirmation(journal: Journal) -> None:
    """Pruned trials do not win, however low they were; the reason says out of how many."""
    choice = choose(journal)
    assert choice.record.number == 1
    assert "5 complete of 6 trials" in choice.why
    assert not choice.unsettled


def test_candidates_differ_in_their_hyperparameters(journal: Journal) -> None:
    """The same configuration twice would be confirmed twice, and crowd out another."""
    add(journal, 6, 2.12, width=11)
    assert [r.number for r in leading(journal.records(), 3)] == [1, 3, 2]


def test_best_mean_wins_and_its_best_seed_is_chosen(journal: Journal) -> None:
    """A lucky search score does not win; means, spreads and the flattery are those of NumPy's."""
    train(journal, (2, 2), LOSSES)
    found, best = confirmed(journal), winner(journal)
    assert best.trial.number == 3
    assert (best.mean, best.sd) == pytest.approx((2.15, statistics.stdev((2.11, 2.19))))
    assert found.flattery == pytest.approx(2.18 - 2.1)
    # From seed 1 it is 0.09 ahead, from seed 2 it is 0.03 behind.
    assert found.lead == pytest.approx((0.03, 0.06))
    choice = choose(journal)
    assert (choice.record.name, choice.record.dev_loss) == ("trial 3, seed 1", 2.11)
    assert choice.journal.kind == "confirm"
    assert "2.1500 ± 0.0566 over 2 seeds, of 2 candidates" in choice.why


def test_interval_is_students_for_few_seeds() -> None:
    """Five seeds know little of their own spread: two standard errors would be 88 %."""
    for n in range(1, 31):
        # The density of Student (1908), by midpoints.
        x = (np.arange(200_000) + 0.5) / 200_000 * t_95(n)
        scale = math.gamma((n + 1) / 2) / math.sqrt(n * math.pi) / math.gamma(n / 2)
        inside = 2 * t_95(n) * scale * np.mean((1 + x**2 / n) ** (-(n + 1) / 2))
        assert inside == pytest.approx(0.95, abs=1e-4)
    assert t_95(200) >= 1.96


@pytest.mark.parametrize(("lead", "is_chance"), [(0.025, True), (0.03, False)])
def test_lead_of_five_seeds_needs_nearly_three_standard_errors(
    journal: Journal, lead: float, *, is_chance: bool
) -> None:
    """What two standard errors would call a difference is met by chance in one of eight."""
    step = 0.01 / math.sqrt(0.5)  # a standard error of 0.01
    losses = {(3, n): 2.1 for n in range(1, 6)}
    losses |= {(1, n): 2.1 + lead + step * (n - 3) for n in range(1, 6)}
    train(journal, (2, 5), losses)

    found = confirmed(journal)

    assert found.lead == pytest.approx((lead, 0.01))
    assert found.may_lead_by_chance is is_chance
    assert to_json(found)["lead_may_be_chance"] is is_chance


def test_plan_has_every_pair_once_and_goes_on(journal: Journal) -> None:
    """Each candidate from each seed, once; more seeds or candidates add to what is there."""
    train(journal, (2, 2), {key: loss for key, loss in LOSSES.items() if key != (3, 2)})
    assert next_training(proposer_of(journal, 2, 2)) == (3, 3, 2)
    assert next_training(proposer_of(journal, 3, 2))[1:] == (2, 1)
    assert next_training(proposer_of(journal, 2, 2, 2 * STEPS)) == (3, 1, 1)


def test_fresh_seeds_are_fresh_and_shared(journal: Journal) -> None:
    """No seed of the search, not even one for all trials, is used again; candidates share them."""
    fresh = [confirm_seed(0, nth) for nth in range(1, 100)]
    assert len(set(fresh)) == 99
    assert not set(fresh) & {trial_seed(0, number) for number in range(1000)}
    plan = make_plan(journal, 3, 2, STEPS)
    for settings in (Settings(), Settings(training_seed=5)):
        proposer = propose_trainings(journal, plan, settings, [])
        proposals = [each for each in iter(proposer.ask, None) if each]
        assert len(proposals) == 6
        assert all(each.seed == fresh[each.facts["nth_seed"] - 1] for each in proposals)


def test_unfinished_confirmation_settles_nothing(journal: Journal) -> None:
    """Half a comparison must not choose; the line to go on with is said."""
    train(journal, (2, 2), {(1, 1): 2.2})
    choice = choose(journal)
    assert choice.record.number == 1
    assert "3 trainings" in choice.unsettled
    assert "mmsearch confirm --top 2 --seeds 2 --steps 100 --study names" in choice.unsettled
    assert (confirmed(journal).winner, confirmed(journal).flattery) == (None, None)


def test_study_that_went_on_unsettles_the_choice(journal: Journal) -> None:
    """A better trial found later was not confirmed; the choice is not made over its head."""
    train(journal, (2, 2), LOSSES)
    add(journal, 6, 2.45)
    assert not choose(journal).unsettled
    add(journal, 7, 2.0)
    assert "trial 7" in choose(journal).unsettled


def test_failed_seed_takes_its_candidate_out(journal: Journal) -> None:
    """A mean over the seeds that did well would flatter: diverging once costs the choice."""
    train(journal, (2, 1), {(1, 1): 2.0}, "FAIL")
    train(journal, (2, 1), {(3, 1): 2.3})
    assert winner(journal).trial.number == 3
    assert confirmed(journal).flattery is None


def test_training_that_its_machine_failed_is_made_up_for(journal: Journal) -> None:
    """A worker that was killed says nothing of a candidate: its seed is trained anew."""
    train(journal, (1, 1), {(1, 1): 2.0})
    outcome = Outcome(state=TrialState.FAIL, reason="its worker process died 4 times", ended_ms=0)
    confirmations(journal).finish(0, outcome)
    assert (confirmed(journal).n_missing, confirmed(journal).winner) == (1, None)
    assert next_training(proposer_of(journal, 1, 1)) == (1, 1, 1)


def test_all_failed_leaves_no_choice(journal: Journal) -> None:
    """Where every candidate failed, nothing is chosen in silence."""
    train(journal, (2, 1), {(1, 1): 9.0, (3, 1): 9.0}, "FAIL")
    assert "every candidate" in choose(journal).unsettled


def test_longer_training_tells_no_flattery(journal: Journal) -> None:
    """A model trained for longer is another model: the gap would be the steps', not luck's."""
    train(journal, (2, 2, 2 * STEPS), LOSSES)
    assert winner(journal).trial.number == 3
    assert confirmed(journal).flattery is None


def test_named_trial_is_the_choice(journal: Journal) -> None:
    """A person may name any trial with weights, and its place is said."""
    assert "number 3 of 5" in choose(journal, 2).why
    assert "pruned" in choose(journal, 5).why
    with pytest.raises(InputError, match="trial 9"):
        choose(journal, 9)


def test_study_without_complete_trials_is_refused(tmp_path: Path) -> None:
    """There is nothing to choose, confirm or test yet."""
    journal = Journal(tmp_path / "names")
    add(journal, 0, 2.0, "PRUNED")
    with pytest.raises(RefusedError, match="no complete trial"):
        choose(journal)
    with pytest.raises(RefusedError, match="no complete trial"):
        make_plan(journal, 3, 5, STEPS)


WHOLE = {"top": 1, "trials": [1], "n_seeds": 1, "steps": 100}


@pytest.mark.parametrize(
    "text",
    [
        *("{", "[]", "{}", '{"trials": 3}'),
        *(json.dumps(WHOLE | {"trials": trials}) for trials in ([], ["x"], 3)),
        *(json.dumps(WHOLE | {"n_seeds": n}) for n in (0, "3", None, True)),
        json.dumps(WHOLE | {"top": "a"}),
        json.dumps(WHOLE | {"more": 1}),
    ],
)
def test_damaged_plan_is_named(journal: Journal, text: str) -> None:
    """A torn or foreign file is an error that names it, not a choice."""
    (journal.folder / "confirm.json").write_text(text)
    with pytest.raises(JournalError, match=r"confirm\.json"):
        choose(journal)


def test_training_that_repeats_nothing_is_named(journal: Journal) -> None:
    """A foreign folder among the trainings is no seed of anything."""
    train(journal, (1, 1), {(1, 1): 2.0})
    add(confirmations(journal), 1, 2.0)
    with pytest.raises(JournalError, match=r"0001/spec\.json"):
        choose(journal)
