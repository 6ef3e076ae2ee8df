"""`mmsearch confirm` as a person runs it: fresh seeds in real processes, seen in MLflow."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities import Run

from mmsearch.search.results.selection import confirmations
from mmsearch.tracking.journal.journal import Journal
from tests.support.assertions import runs_of_kind
from tests.support.fault_injection import APPEND_SEGMENT, Kill, replaced
from tests.support.forked_cli import Warm
from tests.support.in_process import run_in_process

WORDS = ("confirm", "--top", 2, "--seeds", 2, "--workers", 1)
"""What the fixture `confirmed` has done."""
ONCE = "os.path.exists('sent') or (open('sent', 'w').close(), os.kill(0, signal.SIGTERM))"
INTERRUPT = replaced(APPEND_SEGMENT, f"lambda *a, **k: (real(*a, **k), {ONCE})")
"""Sends SIGTERM to the command and its workers after the first segment."""
KILL = Kill(call=APPEND_SEGMENT, at="after", named=", 1, [SegmentRecord(").patch
"""Kills the command in its second training."""


def journal(folder: Path) -> Journal:
    """Return the study's journal."""
    return Journal(folder / "runs/few")


def runs(folder: Path) -> tuple[Run, list[Run]]:
    """Read MLflow as a person with a plain client: the parent and the trainings."""
    (parent,) = runs_of_kind(folder / "runs", "few", "study")
    return parent, runs_of_kind(folder / "runs", "few", "confirm")


def results(folder: Path) -> dict[str, Any]:
    """Return what must be equal between two confirmations of one study."""
    return {
        record.name: (record.spec, record.state, [line.weights_sha256 for line in record.curve])
        for record in confirmations(journal(folder)).records()
    }


def assert_whole(folder: Path) -> None:
    """Hold the journal and MLflow against each other: each training once, closed, nested."""
    records = confirmations(journal(folder)).records()
    parent, children = runs(folder)
    assert parent.info.status == "FINISHED"
    assert len(records) == len(children) == 4
    by_name = {run.info.run_name: run for run in children}
    for record in records:
        run = by_name[record.name]
        assert run.info.status == "FINISHED"
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert run.data.tags["mmsearch.trial"] == str(record.facts["trial"])
        assert run.data.tags["mmsearch.seed"] == str(record.spec.seed)
        assert run.data.metrics["dev_loss"] == record.dev_loss


def test_confirm_trains_each_candidate_from_each_seed(
    confirmed: Path, reconfirmed: Path, warm_command: Warm
) -> None:
    """Four trainings, once each, everywhere; again it does nothing; the choice is what is used."""
    printed = (confirmed / "printed.txt").read_text()
    assert all(len(line) <= 80 for line in printed.splitlines())
    assert_whole(reconfirmed)
    before = results(reconfirmed)
    said = json.loads(warm_command(*WORDS, "--json", folder=reconfirmed).stdout)
    assert results(reconfirmed) == before
    assert_whole(reconfirmed)
    best, second = said["candidates"]
    losses = [seed["dev_loss"] for seed in best["seeds"]]
    assert best["mean"] == pytest.approx(sum(losses) / 2)
    assert best["mean"] <= second["mean"]
    assert f"{best['mean']:.4f}" in printed
    assert said["chosen"]["dev_loss"] == min(losses)
    assert [each["seed"] for each in best["seeds"]] == [each["seed"] for each in second["seeds"]]
    assert not {each["seed"] for each in best["seeds"]} & {
        record.spec.seed for record in journal(reconfirmed).records()
    }
    name = f"trial {said['chosen']['trial']}, seed {said['chosen']['nth_seed']}"
    sampled = json.loads(run_in_process("sample", "--json", folder=reconfirmed).output)
    assert (sampled["model"], sampled["dev_loss"]) == (name, min(losses))
    parent, _ = runs(reconfirmed)
    assert parent.data.tags["mmsearch.chosen"] == name
    assert parent.data.metrics["confirmed_dev_loss"] == best["mean"]
    assert name in parent.data.tags["mlflow.note.content"]


@pytest.mark.fault
def test_stopped_confirmation_goes_on_as_if_undisturbed(
    confirmed: Path, copied: Path, warm_command: Warm
) -> None:
    """SIGTERM costs segments in flight, names the line to go on with, and changes no number."""
    stopped = warm_command(*WORDS, folder=copied, patch=INTERRUPT, code=128 + signal.SIGTERM)
    assert "mmsearch confirm --top 2 --seeds 2" in stopped.stdout + stopped.stderr
    refused = warm_command("final-test", folder=copied, code=3)
    assert "mmsearch confirm" in refused.stderr
    warm_command(*WORDS, folder=copied, code=0)
    assert results(copied) == results(confirmed)
    assert_whole(copied)


def test_trainings_that_no_plan_wants_are_given_up(copied: Path, warm_command: Warm) -> None:
    """A smaller plan after a killed one leaves nothing RUNNING, and a larger one trains it anew."""
    warm_command(*WORDS, folder=copied, patch=KILL, code=-signal.SIGKILL)
    smaller = ("confirm", "--top", 1, "--seeds", 1, "--workers", 1)
    for words, n_complete in ((smaller, 1), (WORDS, 4)):
        warm_command(*words, folder=copied, code=0)
        states = [record.state for record in confirmations(journal(copied)).records()]
        assert sorted(states) == ["COMPLETE"] * n_complete + ["PRUNED"]
    assert {run.info.status for run in runs(copied)[1]} == {"KILLED", "FINISHED"}


def test_no_choice_is_no_success(copied: Path, warm_command: Warm) -> None:
    """Where every candidate diverges nothing is chosen, and a script is told."""
    for record in journal(copied).records():
        path = journal(copied).trial_folder(record.number) / "spec.json"
        facts = json.loads(path.read_text())
        facts["spec"]["learning_rate"] = 1e30 * (1 + record.number)
        path.write_text(json.dumps(facts))
    words = ("confirm", "--top", 1, "--seeds", 1, "--workers", 1)
    done = warm_command(*words, folder=copied, code=1)
    assert "diverged" in done.stdout


def test_what_is_damaged_beside_a_study_stops_no_search(copied: Path, warm_command: Warm) -> None:
    """A search needs neither ledger nor plan: it says what is wrong, and MLflow is closed."""
    (copied / "runs/few/confirm.json").write_text("x")
    env = {"HOME": "/dev/null", "MMSEARCH_LEDGER": "/dev/null"}
    words = ("run", "--study", "few", "-n", 5, "--workers", 1)
    warm_command(*words, folder=copied, **env, code=0)
    parent, _ = runs(copied)
    assert parent.info.status == "FINISHED"
    assert "confirm.json" in parent.data.tags["mlflow.note.content"]


def test_wrong_numbers_are_refused(searched: Path) -> None:
    """A plan that cannot be trained is refused before anything is written."""
    for words in (("--seeds", 0), ("--steps", 3), ("--steps", 10**24), ("--study", "none")):
        run_in_process("confirm", *words, folder=searched, code=2)
    assert not (searched / "runs/few/confirm.json").exists()
