"""Choosing on dev: the best mean over fresh seeds, and nothing that is not settled."""

from __future__ import annotations

import json
import math
import shutil
import statistics
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from mmsearch.errors import InputError, RefusedError
from mmsearch.model.curve import CurvePoint
from mmsearch.search.cli.confirm import to_json
from mmsearch.search.execution.confirm_job import (
    FreshSeeds,
    confirm_seed,
    make_plan,
    propose_trainings,
)
from mmsearch.search.optimizer.samplers import trial_seed
from mmsearch.search.results.selection import (
    Confirmation,
    Plan,
    choose,
    confirmations,
    leading,
    repeats,
    t_95,
)
from mmsearch.search.study.settings import Settings
from mmsearch.tracking.journal.files import JournalError
from mmsearch.tracking.journal.journal import Journal
from mmsearch.tracking.journal.records import Outcome, SegmentRecord, TrialState
from tests.support.specs import make_spec

if TYPE_CHECKING:
    from pathlib import Path

STEPS = 100


def point(width: int) -> dict[str, Any]:
    """Give hyperparameters that differ in the width."""
    return {
        "embedding_dim": 2,
        "hidden_width": width,
        "block_size": 3,
        "learning_rate": 0.1,
        "weight_decay": 0.0,
        "context_noise": 0.0,
    }


def add(  # noqa: PLR0913 (what a trial is)
    journal: Journal,
    number: int,
    loss: float,
    *,
    width: int | None = None,
    state: str = "COMPLETE",
    steps: int = STEPS,
    facts: dict[str, Any] | None = None,
) -> None:
    """Write a trial of one segment."""
    spec = make_spec(**point(width or 10 + number), seed=number, n_steps=steps, n_segments=1)
    journal.start(number, spec, {"started_ms": 0, "n_parameters": 1, **(facts or {})})
    line = SegmentRecord(
        segment=1,
        step=steps,
        train=(CurvePoint(steps, 2.0, 0.1),),
        dev_loss=loss,
        wall_s=1.0,
        ended_ms=0,
        weights_sha256="",
    )
    journal.append(number, line, b"")
    if state != "RUNNING":
        reason = "the train loss is not finite at step 3 of 100" if state == "FAIL" else ""
        journal.finish(number, Outcome(state=TrialState(state), reason=reason, ended_ms=0))


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    """Give a study of five complete trials and a pruned one that had a lower loss."""
    journal = Journal(tmp_path / "names")
    for number, loss in enumerate((2.3, 2.1, 2.2, 2.15, 2.4)):
        add(journal, number, loss)
    add(journal, 5, 1.9, state="PRUNED")
    return journal


def proposer_of(journal: Journal, plan: Plan) -> FreshSeeds:
    """Begin a plan, or go on with it, as `mmsearch confirm` does."""
    return propose_trainings(journal, plan, Settings(), list(repeats(journal, plan).values()))


def train(
    journal: Journal, plan: Plan, losses: dict[tuple[int, int], float], state: str = "COMPLETE"
) -> None:
    """Write what the coordinator would, for the trainings that have a loss."""
    proposer = proposer_of(journal, plan)
    while (proposal := proposer.ask()) is not None:
        key = (proposal.facts["trial"], proposal.facts["nth_seed"])
        if key not in losses:
            return
        add(
            confirmations(journal),
            proposal.number,
            losses[key],
            steps=plan.steps,
            facts=dict(proposal.facts),
            state=state,
        )


LOSSES = {(1, 1): 2.20, (3, 1): 2.11, (1, 2): 2.16, (3, 2): 2.19}


def test_best_trial_is_the_choice_without_a_confirmation(journal: Journal) -> None:
    """Pruned trials do not win, however low they were; the reason says out of how many."""
    choice = choose(journal)
    assert choice.record.number == 1
    assert choice.why == "lowest dev loss of 5 complete of 6 trials; not confirmed"
    assert not choice.unsettled


def test_candidates_differ_in_their_hyperparameters(journal: Journal) -> None:
    """The same configuration twice would be confirmed twice, and crowd out another."""
    add(journal, 6, 2.12, width=11)
    assert [r.number for r in leading(journal.records(), 3)] == [1, 3, 2]


def test_best_mean_wins_and_its_best_seed_is_chosen(journal: Journal) -> None:
    """A lucky search score does not win; means, spreads and the flattery are those of NumPy's."""
    train(journal, make_plan(journal, 2, 2, STEPS), LOSSES)
    found = Confirmation.read(journal)
    assert found is not None
    assert found.winner is not None
    assert found.winner.trial.number == 3
    assert found.winner.mean == pytest.approx(2.15)
    assert found.winner.sd == pytest.approx(statistics.stdev((2.11, 2.19)))
    assert found.flattery == pytest.approx(2.18 - 2.1)
    # From seed 1 it is 0.09 ahead, from seed 2 it is 0.03 behind.
    assert found.lead == pytest.approx((0.03, 0.06))
    choice = choose(journal)
    assert choice.record.name == "trial 3, seed 1"
    assert choice.record.dev_loss == 2.11
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
    journal: Journal,
    lead: float,
    is_chance: bool,  # noqa: FBT001 (a parameter of the test)
) -> None:
    """What two standard errors would call a difference is met by chance in one of eight."""
    spread = (-2, -1, 0, 1, 2)  # a standard error of 0.01
    step = 0.01 / math.sqrt(0.5)
    losses = {(3, n): 2.1 for n in range(1, 6)}
    losses |= {(1, n): 2.1 + lead + step * spread[n - 1] for n in range(1, 6)}
    train(journal, make_plan(journal, 2, 5, STEPS), losses)

    found = Confirmation.read(journal)

    assert found is not None
    assert found.lead == pytest.approx((lead, 0.01))
    assert found.may_lead_by_chance is is_chance
    told = to_json(found)
    assert told["lead_may_be_chance"] is is_chance


def test_plan_has_every_pair_once_and_goes_on(journal: Journal) -> None:
    """Each candidate from each seed, once; more seeds or candidates add to what is there."""
    plan = make_plan(journal, 2, 2, STEPS)
    train(journal, plan, {k: v for k, v in LOSSES.items() if k != (3, 2)})
    proposer = proposer_of(journal, plan)
    left = proposer.ask()
    assert left is not None
    assert (left.number, left.facts) == (3, {"trial": 3, "nth_seed": 2})
    assert left.point == point(13)
    wider = proposer_of(journal, make_plan(journal, 3, 2, STEPS))
    first = wider.ask()
    assert first is not None
    assert first.facts == {"trial": 2, "nth_seed": 1}
    longer = proposer_of(journal, make_plan(journal, 2, 2, 2 * STEPS))
    first = longer.ask()
    assert first is not None
    assert (first.number, first.facts) == (3, {"trial": 1, "nth_seed": 1})


def test_proposals_read_no_files(journal: Journal) -> None:
    """A plan of thousands of trainings must not read the journal for each of them."""
    proposer = proposer_of(journal, make_plan(journal, 5, 200, STEPS))
    shutil.rmtree(journal.folder)

    numbers = [proposal.number for proposal in iter(proposer.ask, None) if proposal]

    assert numbers == list(range(1000))


def test_fresh_seeds_are_fresh_and_shared() -> None:
    """No seed of the search is used again, and all candidates see the same minibatches."""
    fresh = {confirm_seed(0, nth) for nth in range(1, 100)}
    assert len(fresh) == 99
    assert not fresh & {trial_seed(0, number) for number in range(1000)}


def test_unfinished_confirmation_settles_nothing(journal: Journal) -> None:
    """Half a comparison must not choose; the line to go on with is said."""
    train(journal, make_plan(journal, 2, 2, STEPS), {(1, 1): 2.2})
    choice = choose(journal)
    assert choice.record.number == 1
    assert "3 trainings of the confirmation are missing" in choice.unsettled
    assert "mmsearch confirm --top 2 --seeds 2 --steps 100 --study names" in choice.unsettled
    found = Confirmation.read(journal)
    assert found is not None
    assert (found.winner, found.flattery) == (None, None)


def test_study_that_went_on_unsettles_the_choice(journal: Journal) -> None:
    """A better trial found later was not confirmed; the choice is not made over its head."""
    train(journal, make_plan(journal, 2, 2, STEPS), LOSSES)
    add(journal, 6, 2.45)
    assert not choose(journal).unsettled
    add(journal, 7, 2.0)
    assert "trial 7 is among the best 2 since" in choose(journal).unsettled


def test_failed_seed_takes_its_candidate_out(journal: Journal) -> None:
    """A mean over the seeds that did well would flatter: diverging once costs the choice."""
    plan = make_plan(journal, 2, 1, STEPS)
    train(journal, plan, {(1, 1): 2.0}, state="FAIL")
    train(journal, plan, {(3, 1): 2.3})
    found = Confirmation.read(journal)
    assert found is not None
    assert found.winner is not None
    assert found.winner.trial.number == 3
    assert found.flattery is None


def test_training_that_its_machine_failed_is_made_up_for(journal: Journal) -> None:
    """A worker that was killed says nothing of a candidate: its seed is trained anew."""
    plan = make_plan(journal, 1, 1, STEPS)
    train(journal, plan, {(1, 1): 2.0})
    outcome = Outcome(state=TrialState.FAIL, reason="its worker process died 4 times", ended_ms=0)
    confirmations(journal).finish(0, outcome)
    found = Confirmation.read(journal)
    assert found is not None
    assert (found.n_missing, found.winner) == (1, None)
    again = proposer_of(journal, plan).ask()
    assert again is not None
    assert (again.number, again.facts) == (1, {"trial": 1, "nth_seed": 1})


def test_all_failed_leaves_no_choice(journal: Journal) -> None:
    """Where every candidate failed, nothing is chosen in silence."""
    plan = make_plan(journal, 2, 1, STEPS)
    train(journal, plan, {(1, 1): 9.0, (3, 1): 9.0}, state="FAIL")
    assert "every candidate" in choose(journal).unsettled


def test_longer_training_tells_no_flattery(journal: Journal) -> None:
    """A model trained for longer is another model: the gap would be the steps', not luck's."""
    train(journal, make_plan(journal, 2, 2, 2 * STEPS), LOSSES)
    found = Confirmation.read(journal)
    assert found is not None
    assert found.winner is not None
    assert found.flattery is None


def test_named_trial_is_the_choice(journal: Journal) -> None:
    """A person may name any trial with weights, and its place is said."""
    assert choose(journal, 2).why == "named with --trial; number 3 of 5 complete trials"
    assert choose(journal, 5).why == "named with --trial; pruned"
    with pytest.raises(InputError, match="no trial 9"):
        choose(journal, 9)


def test_study_without_complete_trials_is_refused(tmp_path: Path) -> None:
    """There is nothing to choose, confirm or test yet."""
    journal = Journal(tmp_path / "names")
    add(journal, 0, 2.0, state="PRUNED")
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
    train(journal, make_plan(journal, 1, 1, STEPS), {(1, 1): 2.0})
    add(confirmations(journal), 1, 2.0)
    with pytest.raises(JournalError, match=r"0001/spec\.json"):
        choose(journal)
